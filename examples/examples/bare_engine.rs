//! Two engines driven by hand: no runtime, no network, no clock. This is all that a driver
//! does, wherever it runs; replace the queue by your transport and `now` by your clock.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::VecDeque;
use std::error::Error;
use std::time::Duration;

use treecast_overlay::{
    Config, Descriptor, Engine, Event, Input, LinkId, Out, Output, PublishId, Start, Time,
};

/// The one link between the two, by the same number at both ends.
const LINK: LinkId = LinkId(0);

fn main() -> Result<(), Box<dyn Error>> {
    let start = |n: u8| Start {
        config: Config::lan(),
        secret_key: [n; 32], // Yours comes from a file, and the seed from the system.
        seed: n.into(),
        unix_ms: 1_700_000_000_000,
        last_life: 0,
        ends: Vec::new(),
    };
    let mut engines = [Engine::new(start(1))?, Engine::new(start(2))?];
    let lobby = Descriptor::open("lobby")?;
    let ids = engines.each_ref().map(Engine::node);
    let hello = PublishId(1);

    // What is to be handed to which engine.
    let mut inputs = VecDeque::new();
    for n in [0, 1] {
        inputs.push_back((n, Input::Join(Box::new(lobby.clone()))));
        inputs.push_back((n, Input::LinkUp { link: LINK, node: ids[1 - n] }));
    }
    inputs.push_back((0, Input::Publish { group: lobby.id(), id: hello, payload: "hello, tree".into() }));

    let (mut now, mut out) = (Time::ZERO, Out::new());
    while now < Time::ZERO + Duration::from_secs(10) {
        while let Some((n, input)) = inputs.pop_front() {
            engines[n].handle(now, input, &mut out);
            while let Some(output) = out.pop() {
                match output {
                    Output::Send { link, lane, frame } => {
                        inputs.push_back((n, Input::Drained { link, lane, bytes: frame.len() }));
                        inputs.push_back((1 - n, Input::Frame { link, lane, frame }));
                    }
                    // Without a store, a write is acknowledged at once: nothing survives us.
                    Output::Persist { token, .. } => inputs.push_back((n, Input::Persisted(token))),
                    Output::Event(Event::Deliver { delivery, .. }) if n == 1 => {
                        println!(
                            "{now:?}: {} from {}",
                            String::from_utf8_lossy(&delivery.payloads[0]),
                            ids[0]
                        );
                        return Ok(());
                    }
                    other => println!("{now:?}: engine {n}: {other:?}"),
                }
            }
        }
        // Nothing left to hand over: on to the next deadline.
        now = engines.iter().filter_map(Engine::deadline).min().ok_or("nothing to wait for")?.max(now);
        inputs.extend([(0, Input::Tick), (1, Input::Tick)]);
    }
    Err("the message did not arrive".into())
}
