//! `sim`: what a group would do on a network, before there is one.

use std::time::Instant;

use treecast_overlay::sim::{Experiment, Measures};

use crate::args::SimArgs;
use crate::failure::{Stop, bug};
use crate::output::Screen;
use crate::sim::{read_scenario, show};

pub(super) async fn run(args: SimArgs, screen: &Screen) -> Result<u8, Stop> {
    let flags = match &args.scenario {
        Some(path) => args.flags.or(read_scenario(path)?),
        None => args.flags,
    };
    let (experiment, seeds) = flags.meant()?;
    screen.note(&show::headline(&experiment));
    if seeds > 1 && !screen.json {
        screen.say(&show::row_head())?;
    }
    for seed in (experiment.seed..).take(usize::try_from(seeds).unwrap_or(usize::MAX)) {
        let (measures, wall_s) = simulate(Experiment { seed, ..experiment.clone() }).await?;
        if screen.json {
            screen.say(&show::json(&measures, wall_s))?;
        } else if seeds > 1 {
            screen.say(&show::row(&measures, wall_s))?;
        } else {
            show::block(&measures, wall_s).iter().try_for_each(|line| screen.say(line))?;
        }
    }
    Ok(0)
}

/// On a thread of its own: it computes, and a signal is to be heard meanwhile.
async fn simulate(experiment: Experiment) -> Result<(Measures, f64), Stop> {
    let started = Instant::now();
    let done = tokio::task::spawn_blocking(move || experiment.run()).await;
    match done {
        Ok(Ok(measures)) => Ok((measures, started.elapsed().as_secs_f64())),
        Ok(Err(error)) => Err(bug(format!("Checked options were refused: {error}.")).into()),
        Err(_) => Err(bug("The simulation panicked.").into()),
    }
}
