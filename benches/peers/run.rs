//! One scenario: runs, each with every variant once in random order.

use super::loadgen::{Load, Measured, Via};
use super::scenarios::{Scenario, label};
use super::server::{Server, Variant};

/// How long to measure; windows are whole groups of pictures.
#[derive(Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) runs: usize,
    pub(crate) window_s: u64,
}

/// One variant in one run.
pub(crate) struct Outcome {
    /// Its place in the order of its run.
    pub(crate) place: usize,
    pub(crate) measured: Measured,
}

/// Measures. Gives the outcomes of each variant, in the order of the runs.
pub(crate) fn scenario(scenario: &Scenario, timing: Timing) -> Vec<Vec<Outcome>> {
    let mut outcomes: Vec<Vec<Outcome>> = scenario.variants.iter().map(|_| Vec::new()).collect();
    for run in 0..timing.runs {
        for (place, index) in shuffled(scenario.variants.len()).into_iter().enumerate() {
            let (variant, via) = &scenario.variants[index];
            eprintln!(
                "{}, run {} of {}: {}",
                scenario.title(),
                run + 1,
                timing.runs,
                label(variant, *via)
            );
            let measured = measure(variant, *via, &scenario.load, timing);
            outcomes[index].push(Outcome { place, measured });
        }
    }
    outcomes
}

fn measure(variant: &Variant, via: Via, load: &Load, timing: Timing) -> Measured {
    // The target is the same for all, and has the load's CPU.
    let target =
        (via == Via::Relayed).then(|| Server::start_target(&Variant::Nginx { workers: 1 }));
    let server = Server::start(variant, target.as_ref());
    load.run(via, timing, &server, target.as_ref(), variant.threads() == 1)
}

/// The numbers below `count` in random order.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        let random = getrandom::u64().expect("the kernel has random numbers");
        order.swap(at, (random % (at as u64 + 1)) as usize);
    }
    order
}
