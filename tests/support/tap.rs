//! A wire tap: a TCP connection passes through it byte for byte, and what the server says is kept.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Between a client and a server. Its threads end with the connection.
pub(crate) struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// Waits for one client, on a free port, and connects it to `server`.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&heard);
        thread::spawn(move || {
            let Ok((client, _)) = listener.accept() else { return };
            let Ok(server) = TcpStream::connect(server) else { return };
            let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor is left");
            let (from_client, to_server) = (clone(&client), clone(&server));
            let said = thread::spawn(move || pass(from_client, to_server, |_| {}));
            pass(server, client, |bytes| {
                kept.lock().expect("nobody panics with it").extend_from_slice(bytes);
            });
            // Its client is gone, or goes now.
            let _ = said.join();
        });
        Self { address, heard }
    }

    /// Where the client connects.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many times the client was sent these bytes so far.
    pub(crate) fn count(&self, bytes: &[u8]) -> usize {
        let heard = self.heard.lock().expect("nobody panics with it");
        let starts = heard.windows(bytes.len()).filter(|part| *part == bytes);
        starts.count()
    }
}

/// Passes bytes on until one side ends.
fn pass(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
    {
        keep(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Fails when the other side has ended first.
    let _ = to.shutdown(Shutdown::Write);
}
