//! What `EgressChoice::Auto` measures, ten times over, to see how steady the choice is.
//!
//! `cargo bench --bench rt_egress`.

use shardcast::rt::{clock, egress};

fn main() {
    println!("{:>12}{:>12}{:>12}  choice", "send ns", "ring ns", "CPU ms");
    for _ in 0..10 {
        let start = clock::thread_cpu();
        match egress::measure() {
            Ok(measured) => println!(
                "{:>12.0}{:>12.0}{:>12.1}  {:?}",
                measured.send_ns,
                measured.ring_ns,
                (clock::thread_cpu() - start).as_secs_f64() * 1e3,
                measured.cheaper()
            ),
            Err(error) => println!("not measured: {error}"),
        }
    }
}
