//! A TCP proxy that a test can shut: then nothing passes, either way, and nobody is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often a shut gate is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A way to a server.
pub(crate) struct Gate {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_shut: AtomicBool,
    is_over: AtomicBool,
}

impl Gate {
    /// A way to this port of loopback.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if of_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let state = Arc::clone(&of_thread);
                thread::spawn(move || pass(&client, port, &state));
            }
        });
        Self { address, state }
    }

    /// Where to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing pass.
    pub(crate) fn shut(&self) {
        self.state.is_shut.store(true, Ordering::Relaxed);
    }

    /// Lets everything pass, also what has waited.
    pub(crate) fn open(&self) {
        self.state.is_shut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        self.open();
        // The listener's thread looks.
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(client: &TcpStream, port: u16, state: &Arc<State>) {
    wait_while_shut(state);
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let ways = [(client, &server), (&server, client)];
    thread::scope(|scope| {
        for (from, to) in ways {
            scope.spawn(move || {
                copy(from, to, state);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, state: &State) {
    let _ = to.set_nodelay(true);
    let _ = from.set_read_timeout(Some(Duration::from_millis(500)));
    let mut buffer = [0; 64 * 1024];
    while !state.is_over.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                wait_while_shut(state);
                if to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

fn wait_while_shut(state: &State) {
    while state.is_shut.load(Ordering::Relaxed) && !state.is_over.load(Ordering::Relaxed) {
        thread::sleep(LOOK_INTERVAL);
    }
}
