//! Kamailio in the middle: a proxy that insists on being in every dialog (Record-Route) and forks to all phones
//! that have registered with it. A request inside a dialog that does not follow the routes gets a 404, so a call
//! ends well only with somebody who obeys RFC 3261 12.1 and 12.2.

use std::fs::File;
use std::process::{Child, Stdio};

use crate::scene::{Scene, free_port};
use crate::{eventually, place, s};

/// See the module.
#[derive(Debug)]
pub struct Kamailio {
    process: Child,
    /// Where it listens, at 127.0.0.1.
    pub port: u16,
}

const MODULES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/kamailio/modules",
    "/usr/lib/aarch64-linux-gnu/kamailio/modules",
    "/usr/lib/kamailio/modules",
];

const ROUTES: &str = r#"
request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) { t_relay(); } exit; }
        sl_send_reply("404", "Not By My Route");
        exit;
    }
    t_check_trans();
    remove_hf("Route");
    if (is_method("OPTIONS") && uri == myself) { sl_send_reply("200", "Here"); exit; }
    if (is_method("REGISTER")) { save("location"); exit; }
    if (is_method("INVITE")) { record_route(); }
    if (uri == myself) {
        if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    }
    t_relay();
}
"#;

impl Kamailio {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(scene: &Scene) -> Self {
        Self::start_with(scene, free_port(), "")
    }

    /// As [`Self::start`], with a registration of its own as `user` at a registrar on this machine, as a PBX has
    /// one at its carrier's. The realm is the user's name, and `secret-USER` the password.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn registering(scene: &Scene, user: &str, registrar: u16) -> Self {
        let (port, tables) = (free_port(), scene.dir().join("kamailio-tables"));
        std::fs::create_dir_all(&tables).expect("a folder");
        let columns = "id(int,auto) l_uuid(string) l_username(string) l_domain(string) r_username(string) \
                       r_domain(string) realm(string) auth_username(string) auth_password(string) auth_ha1(string,null) \
                       auth_proxy(string) expires(int) flags(int) reg_delay(int) contact_addr(string,null) socket(string,null)";
        let row = format!(
            "1:line:{user}:127.0.0.1:{user}:{user}:{user}:{user}:secret-{user}::sip\\:127.0.0.1\\:{registrar}:60:0:0::"
        );
        std::fs::write(tables.join("uacreg"), format!("{columns}\n{row}\n")).expect("written");
        let versions = "table_name(string) table_version(int)\nuacreg:5\n";
        std::fs::write(tables.join("version"), versions).expect("written");
        let more = format!(
            "loadmodule \"db_text.so\"\nloadmodule \"uac.so\"\nmodparam(\"uac\", \"restore_mode\", \"none\")\n\
             modparam(\"uac\", \"reg_db_url\", \"text://{}\")\nmodparam(\"uac\", \"reg_contact_addr\", \"127.0.0.1:{port}\")\n\
             modparam(\"uac\", \"reg_timer_interval\", 1)\n",
            tables.display()
        );
        Self::start_with(scene, port, &more)
    }

    fn start_with(scene: &Scene, port: u16, more: &str) -> Self {
        let modules = MODULES
            .into_iter()
            .find(|m| std::path::Path::new(m).is_dir())
            .expect("Kamailio's modules: install the Debian package kamailio");
        let mut config = format!(
            "#!KAMAILIO\ndebug=1\nlog_stderror=yes\nchildren=2\nauto_aliases=no\ndisable_tcp=yes\n\
             listen=udp:127.0.0.1:{port}\nmpath=\"{modules}\"\n"
        );
        for module in ["tm", "sl", "rr", "pv", "maxfwd", "usrloc", "registrar", "textops", "siputils"] {
            config.push_str(&format!("loadmodule \"{module}.so\"\n"));
        }
        config.push_str("modparam(\"usrloc\", \"db_mode\", 0)\n");
        config.push_str(more);
        config.push_str(ROUTES);
        let file = scene.dir().join("kamailio.cfg");
        std::fs::write(&file, config).expect("written");
        let log = File::create(scene.dir().join("kamailio.log")).expect("a log");
        // Debian keeps it in sbin, which a user's PATH may leave out.
        let mut program = match std::path::Path::new("/usr/sbin/kamailio").is_file() {
            true => std::process::Command::new("/usr/sbin/kamailio"),
            false => place::program("kamailio", "kamailio"),
        };
        let process = program
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-Y"])
            .arg(scene.dir())
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("Kamailio starts");
        let this = Self { process, port };
        let mut ua = crate::raw::RawUa::new();
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        eventually("Kamailio answers OPTIONS", s(10), || {
            ua.options(to);
            ua.may_get(crate::ms(200), |m| m.status() == 200)
        });
        this
    }

    /// The address of a user of its.
    #[must_use]
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@127.0.0.1:{}", self.port)
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // SAFETY: the process is our child and has not been waited for. SIGTERM, since its children end with it then.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGTERM) };
        let _ = self.process.wait();
    }
}
