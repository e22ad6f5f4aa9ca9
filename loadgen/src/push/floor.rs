//! The floor: what it costs to send the same bytes to as many connections when nothing else is done. A
//! process of its own sends, so that its CPU time is the sender's alone; receivers are here, as they are
//! for a server.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use crate::limits;
use crate::poll::Poll;
use crate::usage::Observed;

/// The command that makes this program the sender.
pub(crate) const COMMAND: &str = "push-floor";

/// CPU time of one send, nanoseconds: `rounds` times `bytes` bytes to each of `connections`.
pub(super) fn measure(connections: u64, bytes: usize, rounds: u32) -> io::Result<f64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([COMMAND, &connections.to_string(), &bytes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ErrorKind::BrokenPipe.into());
    };
    let mut lines = BufReader::new(output).lines();
    let mut line = || lines.next().unwrap_or_else(|| Err(ErrorKind::UnexpectedEof.into()));
    let address: SocketAddr = line()?.parse().map_err(io::Error::other)?;
    let mut poll = Poll::new()?;
    let mut streams = Vec::new();
    for token in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        poll.add(stream.as_raw_fd(), token, false)?;
        streams.push(stream);
    }
    let mut cpu_ns = 0.0;
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..rounds {
        input.write_all(b"send\n")?;
        let mut missing = connections as usize * bytes;
        while missing > 0 {
            let mut ready = Vec::new();
            poll.wait(1_000_000_000, &mut ready)?;
            for event in ready {
                let Some(stream) = streams.get_mut(event.token as usize) else { continue };
                match stream.read(&mut buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(count) => missing = missing.saturating_sub(count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        cpu_ns += line()?.parse::<f64>().map_err(io::Error::other)?;
    }
    drop(input);
    child.wait()?;
    Ok(cpu_ns / (connections.max(1) * u64::from(rounds)) as f64)
}

/// The sender: prints its address, and for each line that it reads the CPU time of a round.
pub(crate) fn serve(connections: u64, bytes: usize) -> io::Result<()> {
    limits::check_descriptors(connections).map_err(io::Error::other)?;
    let own = Observed::own();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut streams = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let message = vec![b'x'; bytes];
    for line in io::stdin().lock().lines() {
        line?;
        let before = own.look().map_err(io::Error::other)?;
        for stream in &mut streams {
            stream.write_all(&message)?;
        }
        let after = own.look().map_err(io::Error::other)?;
        println!("{}", after.cpu_since(&before).0);
    }
    Ok(())
}
