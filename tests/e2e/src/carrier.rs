//! Kamailio as a carrier: a registrar that challenges, relays calls of whoever has the credentials to
//! one phone, and calls of strangers to whoever is registered.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::scene::{Scene, free_port};
use crate::{eventually, s};

/// See the module.
#[derive(Debug)]
pub struct Carrier {
    process: Child,
    dir: PathBuf,
    /// Where it listens.
    pub port: u16,
}

/// The user that it knows.
pub const USER: &str = "acme";
/// With this password.
pub const PASSWORD: &str = "trunk-secret";

impl Carrier {
    /// Starts it; `phone` is the port that it relays to, `algorithm` `MD5` or `SHA-256`.
    ///
    /// # Panics
    /// When Kamailio cannot be started.
    #[must_use]
    pub fn start(scene: &Scene, phone: u16, algorithm: &str) -> Self {
        let port = free_port();
        let dir = scene.dir().join("kamailio");
        std::fs::create_dir_all(&dir).expect("a folder");
        let file = dir.join("kamailio.cfg");
        std::fs::write(&file, configuration(port, phone, algorithm)).expect("a configuration");
        let log = File::create(scene.dir().join("kamailio.log")).expect("a log");
        let process = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"])
            .arg(&dir)
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("Kamailio starts: apt-get install kamailio");
        let carrier = Self { process, dir: scene.dir().to_owned(), port };
        eventually("Kamailio listens", s(10), || {
            // Its port is taken when it is up.
            std::net::UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(())
        });
        carrier
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("kamailio.log")).unwrap_or_default()
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // SAFETY: the process is our child and has not been waited for; SIGTERM lets it end its children.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGTERM) };
        let _ = self.process.wait();
    }
}

fn configuration(port: u16, phone: u16, algorithm: &str) -> String {
    format!(
        r#"#!KAMAILIO
debug=1
log_stderror=yes
children=2
auto_aliases=no
disable_tcp=yes
listen=udp:127.0.0.1:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "xlog.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("auth", "algorithm", "{algorithm}")
modparam("auth", "qop", "auth")
modparam("auth", "nonce_count", 0)
modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_expires", 30)

request_route {{
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("404", "Not here");
    exit;
  }}
  if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
  if (is_method("REGISTER")) {{
    if ($au != "{USER}" || !pv_www_authenticate("carrier.test", "{PASSWORD}", "0")) {{ www_challenge("carrier.test", "1"); exit; }}
    xlog("L_ERR", "REGISTERED $ct algorithm $adu\n");
    save("location");
    exit;
  }}
  if (!is_method("INVITE")) {{ sl_send_reply("405", "No"); exit; }}
  record_route();
  if ($fU == "outside") {{
    $rU = "{USER}";
    if (!lookup("location")) {{ sl_send_reply("480", "Not registered"); exit; }}
    t_relay();
    exit;
  }}
  if ($au != "{USER}" || !pv_proxy_authenticate("carrier.test", "{PASSWORD}", "0")) {{ proxy_challenge("carrier.test", "1"); exit; }}
  consume_credentials();
  $rd = "127.0.0.1";
  $rp = {phone};
  t_relay();
}}
"#
    )
}
