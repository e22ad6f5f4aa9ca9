//! Certificates of the test's own.

use std::path::PathBuf;
use std::process::Command;

use super::process::Process;
use super::scratch::Scratch;
use super::wait::SOON;

/// A key and a certificate of its own for 127.0.0.1, in `PREFIXkey.pem` and `PREFIXcert.pem`.
pub(crate) fn certificate(scratch: &Scratch, prefix: &str) -> (PathBuf, PathBuf) {
    let [key, cert] = ["key", "cert"].map(|name| scratch.file(&format!("{prefix}{name}.pem")));
    let mut command = Command::new("openssl");
    command
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert);
    Process::run("openssl", &mut command, SOON);
    (key, cert)
}
