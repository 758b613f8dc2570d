//! `trace SEED`: runs one generated scenario and prints its trace hash, so that two
//! processes can be compared.

use std::io::Write as _;
use std::process::ExitCode;

use treecast_tests::chaos::{Plan, Size, run};

fn main() -> ExitCode {
    let Some(seed) = std::env::args().nth(1).and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: trace SEED");
        return ExitCode::from(2);
    };
    let outcome = run(&Plan::generate(seed, Size::Small));
    match writeln!(std::io::stdout(), "{}", outcome.world.trace_hash()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
