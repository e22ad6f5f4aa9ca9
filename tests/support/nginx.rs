//! Debian's nginx-rtmp, with applications of the test's own.

use std::fs;
use std::process::Command;

use super::ports::Port;
use super::process::Process;
use super::scratch::Scratch;
use super::wait::{SOON, eventually};

/// A running nginx-rtmp on a free port.
pub(crate) struct Nginx {
    _process: Process,
    port: Port,
    _scratch: Scratch,
}

impl Nginx {
    /// Starts it with these lines inside of its `server`.
    pub(crate) fn start(name: &str, applications: &str) -> Self {
        let port = Port::reserve();
        let scratch = Scratch::new(name);
        let configuration = format!(
            "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
             daemon off; master_process off; pid {0}/pid; error_log {0}/error.log info;\n\
             events {{}}\nrtmp {{ server {{ listen {1}; chunk_size 4096;\n{applications}\n}} }}\n",
            scratch.path().display(),
            port.address()
        );
        fs::write(scratch.file("nginx.conf"), configuration).expect("it can be written");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(scratch.path()).arg("-c").arg(scratch.file("nginx.conf"));
        let process = Process::spawn("nginx-rtmp", &mut command);
        eventually("nginx listens", SOON, || std::net::TcpStream::connect(port.address()).ok());
        Self { _process: process, port, _scratch: scratch }
    }

    /// The address of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.port.address())
    }
}
