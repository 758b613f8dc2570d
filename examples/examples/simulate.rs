//! What a group would do, before there is one: a hundred real engines around the world on virtual
//! time, a third of which lose power at once.
//!
//! Run it: `cargo run --example simulate`. The same seed gives the same numbers everywhere.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::time::Duration;

use treecast_overlay::sim::{Experiment, NetworkModel};

fn main() -> Result<(), Box<dyn Error>> {
    let experiment = Experiment {
        seed: 7,
        nodes: 100,
        network: NetworkModel::regions(),
        span: Duration::from_secs(15),
        kill: Some("30@10".parse()?),
        ..Experiment::default()
    };
    let measures = experiment.run()?;
    println!("settled after {} s; {} messages", measures.settled_s, measures.messages);
    println!("{} of {} deliveries owed are missing", measures.missing, measures.owed);
    if let (Some(stretch), Some(usual), Some(first)) =
        (measures.stretch, measures.settled_last_ms, measures.first_after_kill_ms)
    {
        println!("{:.2} times as long as the direct way, on average", stretch.mean);
        println!("the last survivor had the first message after {} ms; {usual} ms before that", first.max);
    }
    if measures.missing > 0 || measures.order_violations > 0 {
        return Err("a message is lost, or came before what it depends on".into());
    }
    Ok(())
}
