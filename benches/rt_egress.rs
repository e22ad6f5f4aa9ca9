//! CPU time per send with `send(2)` and in batches on a private ring, by connections and bytes, as
//! `EgressChoice::Auto` measures it; first what `Auto` itself sees, ten times over.
//!
//! `cargo bench --bench rt_egress`.

use shardcast::rt::clock;
use shardcast::rt::egress::measure_with;

fn main() {
    println!(
        "{:>12}{:>10}{:>10}{:>10}{:>10}  choice",
        "connections", "bytes", "send ns", "ring ns", "CPU ms"
    );
    for _ in 0..10 {
        row(256, 8 * 1024);
    }
    for connections in [16, 64, 256] {
        for bytes in [1_000, 3_500, 10_000, 25_000] {
            for _ in 0..3 {
                row(connections, bytes);
            }
        }
    }
}

fn row(connections: usize, bytes: usize) {
    let start = clock::thread_cpu();
    let measured = measure_with(connections, bytes).expect("loopback and a private ring");
    println!(
        "{connections:>12}{bytes:>10}{:>10.0}{:>10.0}{:>10.1}  {:?}",
        measured.send_ns,
        measured.ring_ns,
        (clock::thread_cpu() - start).as_secs_f64() * 1e3,
        measured.choice()
    );
}
