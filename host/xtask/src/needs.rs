//! What the checks need from the machine: installed where we may, otherwise named.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cargo::{cache, program};

/// Programs and the Debian packages that bring them.
const DEBIAN: &[(&str, &str)] = &[
    ("sipp", "sip-tester"),
    ("baresip", "baresip-core"),
    ("espeak-ng", "espeak-ng"),
    ("tshark", "tshark"),
    ("sox", "sox"),
    ("sipsak", "sipsak"),
    ("linphonec", "linphone-cli"),
    ("kamailio", "kamailio"),
    ("svmap", "sipvicious"),
    ("sngrep", "sngrep"),
    ("dnsmasq", "dnsmasq-base"),
    ("openssl", "openssl"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// Sees to it that these programs are there.
pub(crate) fn programs(names: &[&str]) -> Result<()> {
    let missing: Vec<&(&str, &str)> =
        DEBIAN.iter().filter(|(name, _)| names.contains(name) && !on_path(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if on_path("apt-get") && program("id").args(["-u"]).output().is_ok_and(|id| id.trim() == "0") {
        println!("installing {}", packages.join(" "));
        let install = || {
            program("apt-get")
                .args(["install", "--yes", "--quiet", "--no-install-recommends"])
                .args(&packages)
                .env("DEBIAN_FRONTEND", "noninteractive")
        };
        if install().succeeds()
            || (program("apt-get").args(["update", "--quiet"]).succeeds() && install().succeeds())
        {
            return Ok(());
        }
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    bail!(
        "missing: {}. Install them, on Debian with: apt-get install {}",
        names.join(", "),
        packages.join(" ")
    )
}

/// All programs of the suites.
pub(crate) fn all_programs() -> Result<()> {
    let names: Vec<&str> = DEBIAN.iter().map(|(name, _)| *name).collect();
    programs(&names)
}

/// The compiler's target for components.
pub(crate) fn wasm_target() -> Result<()> {
    let installed = || {
        program("rustc")
            .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
            .output()
            .is_ok_and(|dir| std::path::Path::new(dir.trim()).is_dir())
    };
    if installed() || (program("rustup").args(["target", "add", "wasm32-wasip2"]).succeeds() && installed()) {
        return Ok(());
    }
    bail!("the target wasm32-wasip2 is missing. Get it with: rustup target add wasm32-wasip2")
}

/// A Python with pjsua2, and the collector rotel beside it, in a virtual environment of its own.
pub(crate) fn pjsua2() -> Result<PathBuf> {
    let venv = cache().join("pjsua2");
    let python = venv.join("bin").join("python");
    let works = || {
        program(&python)
            .args(["-c", "import pjsua2, importlib.util as u; assert u.find_spec('rotel')"])
            .succeeds()
    };
    if works() {
        return Ok(python);
    }
    println!("installing pjsua2 into {}", venv.display());
    let made = program("python3").args(["-m", "venv"]).args([&venv]).succeeds();
    if made
        && program(&python)
            .args(["-m", "pip", "install", "--quiet", "pjsua2-python==2.15.1.post1", "rotel==0.0.1a15"])
            .succeeds()
        && works()
    {
        return Ok(python);
    }
    bail!(
        "missing: pjsua2 or rotel for Python. Get it with: python3 -m venv {0} && {0}/bin/pip install pjsua2-python rotel (wheels exist for CPython 3.11)",
        venv.display()
    )
}

/// JsSIP, with a WebSocket for Node.
pub(crate) fn jssip() -> Result<PathBuf> {
    let folder = cache().join("jssip");
    let there = || folder.join("node_modules/jssip").is_dir() && folder.join("node_modules/ws").is_dir();
    if !there() {
        println!("installing JsSIP into {}", folder.display());
        let _ = program("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .args([&folder])
            .args(["jssip@3.13.8", "ws@8"])
            .succeeds();
    }
    if there() {
        return Ok(folder);
    }
    bail!("missing: JsSIP. Get it with: npm install --prefix {} jssip@3.13.8 ws@8", folder.display())
}

fn on_path(name: &str) -> bool {
    // Debian keeps Kamailio in sbin, which a user's PATH may leave out.
    let here = |dir: PathBuf| dir.join(name).is_file();
    here("/usr/sbin".into())
        || std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(here))
}
