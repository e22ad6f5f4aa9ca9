//! node-media-server, a media server of another make, with RTMP and RTMP over TLS.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use super::downloads::downloads;
use super::ports::Port;
use super::process::Process;
use super::scratch::Scratch;
use super::wait::{SOON, eventually};

/// Its RTMP part alone: PORT [TLS_PORT KEY CERT].
const SCRIPT: &str = "const [directory, port, tlsPort, key, cert] = process.argv.slice(2);
const Server = require(directory + '/node_modules/node-media-server/src/node_rtmp_server');
const ssl = tlsPort && { port: Number(tlsPort), key, cert };
const rtmp = { port: Number(port), chunk_size: 4096, gop_cache: true, ping: 30, ping_timeout: 60, ssl };
new Server({ rtmp, logType: 3 }).run();
";

/// A running one; dropped, it is killed.
pub(crate) struct NodeMediaServer {
    _process: Process,
    port: Port,
    tls_port: Port,
    _scratch: Scratch,
}

impl NodeMediaServer {
    /// On free ports; with a key and a certificate over TLS as well.
    pub(crate) fn start(name: &str, tls: Option<(&Path, &Path)>) -> Self {
        let directory = downloads().join("node-media-server-2.7.4");
        assert!(directory.exists(), "{} is not there: run scripts/test-deps", directory.display());
        let (port, tls_port) = (Port::reserve(), Port::reserve());
        let scratch = Scratch::new(name);
        fs::write(scratch.file("server.js"), SCRIPT).expect("it can be written");
        let mut command = Command::new("node");
        command.arg(scratch.file("server.js")).arg(directory).arg(port.number().to_string());
        if let Some((key, cert)) = tls {
            command.arg(tls_port.number().to_string()).arg(key).arg(cert);
        }
        let process = Process::spawn("node-media-server", &mut command);
        eventually("it listens", 2 * SOON, || {
            let address = if tls.is_some() { tls_port.address() } else { port.address() };
            TcpStream::connect(address).ok()
        });
        Self { _process: process, port, tls_port, _scratch: scratch }
    }

    /// `rtmp://…/PATH`
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.port.address())
    }

    /// `rtmps://…/PATH`
    pub(crate) fn tls_url(&self, path: &str) -> String {
        format!("rtmps://{}/{path}", self.tls_port.address())
    }
}
