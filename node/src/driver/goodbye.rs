//! How a node, or its part in a group, ends.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use treecast_overlay::GroupId;

use super::Driver;
use crate::handle::Command;

/// The core waits for neighbours to hold our batches, bounded by its `goodbye_wait`; this is
/// the bound on the core.
const GOODBYE: Duration = Duration::from_millis(3_000);

/// How long what was said may take to leave.
const FLUSH: Duration = Duration::from_millis(500);

impl Driver {
    /// Nothing holds the group any longer: the node goes offline in it.
    pub(super) fn step_out(&mut self, group: GroupId) {
        tracing::debug!(?group, "nothing holds the group");
        if let Some(slot) = self.groups.slots.get_mut(&group).filter(|slot| !slot.stepping_out) {
            slot.stepping_out = true;
            self.overlay().go_offline(group);
        }
    }

    /// Goodbye in all groups, connections closed, state saved.
    pub(super) async fn say_goodbye(&mut self) {
        self.pump();
        self.overlay().shutdown();
        self.serve_until(GOODBYE, |driver| driver.goodbye_said).await;
        // The core has closed its links; what waits on them goes out first.
        self.serve_until(FLUSH, |driver| driver.swarm.behaviour().overlay.links().next().is_none()).await;
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // It may be gone by now.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.serve_until(FLUSH, |driver| driver.peers.len() == 0).await;
        self.groups.close();
        self.remember_members();
        let last = self.keeper.finish().await;
        self.on_saved(last);
    }

    /// Goes on as usual until it is done or the time is over.
    async fn serve_until(&mut self, patience: Duration, is_done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        while !is_done(self) && Instant::now() < deadline {
            tokio::select! {
                event = timeout_at(deadline, self.swarm.select_next_some()) => {
                    if let Ok(event) = event {
                        self.on_swarm_event(event);
                    }
                }
                Some(command) = self.commands.recv() => self.on_late_command(command),
                saved = self.keeper.saved() => self.on_saved(saved),
            }
        }
    }

    fn on_late_command(&mut self, command: Command) {
        match command {
            Command::Publish { placed, .. } => {
                // Who published may not want to know.
                let _ = placed.send(Err(treecast_overlay::PublishError::Leaving.into()));
            }
            other => self.on_command(other),
        }
    }
}
