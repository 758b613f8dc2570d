//! Frames from a linked node that shares the group, each to its room.

use super::Group;
use super::ctx::Ctx;
use super::spread::Violation;
use crate::id::NodeId;
use crate::wire::frame::{Empty, Frame};

impl Group {
    pub(crate) fn handle_frame(
        &mut self,
        ctx: &mut Ctx<'_>,
        from: NodeId,
        frame: Frame,
    ) -> Result<(), Violation> {
        if !self.admits(&from) {
            return Ok(());
        }
        if !self.allows(&from) {
            self.turn_away(ctx, &from);
            return Ok(());
        }
        if self.views.is_active(&from) {
            ctx.links.touch(ctx.now, &from);
        } else if is_for_neighbours(&frame) {
            // The other side believes that we are neighbours: it is to know better.
            ctx.send(&from, &Frame::Disconnect(Empty::default()));
            return Ok(());
        }
        match frame {
            Frame::Batch(bytes) => return self.handle_batch(ctx, from, bytes),
            Frame::Fork(fork) => return self.handle_fork(ctx, from, &fork),
            Frame::Frontier(frontier) => self.handle_frontier(ctx, from, &frontier),
            Frame::News(news) => self.handle_frontier(ctx, from, &news.into_frontier()),
            Frame::Pull(pull) => self.handle_pull(ctx, from, &pull),
            Frame::PullEarlier(pull) => self.handle_pull_earlier(ctx, from, &pull),
            Frame::Earlier(told) => return self.handle_earlier(ctx, from, told),
            Frame::PullEnd(end) => self.handle_pull_end(ctx, from, &end),
            // Whose source sends to all by itself, none may stop it.
            Frame::Flow(_) if self.is_unicast() => {}
            Frame::Flow(flow) => {
                self.flow.on_flow(ctx.now, from, flow.paused);
                self.on_drained(ctx, &from);
            }
            Frame::Listen(listen) => self.handle_listen(ctx, from, &listen),
            Frame::Hold(hold) => self.handle_hold(ctx, from, &hold),
            Frame::Compare(compare) => self.handle_compare(ctx, from, &compare),
            Frame::Summary(summary) => self.handle_summary(ctx, from, &summary),
            Frame::AckRequest(request) => self.handle_ack_request(ctx, from, &request),
            Frame::Acks(acks) => self.handle_acks(ctx, from, &acks),
            Frame::Agree(agree) => self.handle_agree(ctx, from, agree),
            other => self.handle_membership(ctx, from, other),
        }
        Ok(())
    }

    fn handle_membership(&mut self, ctx: &mut Ctx<'_>, from: NodeId, frame: Frame) {
        match frame {
            Frame::Join(join) => self.handle_join(ctx, from, &join),
            Frame::Baseline(piece) => self.handle_baseline(ctx, from, piece),
            Frame::Welcome(welcome) => self.handle_welcome(ctx, from, &welcome),
            Frame::Neighbour(ask) => self.handle_neighbour(ctx, from, &ask),
            Frame::NeighbourReply(reply) => self.handle_neighbour_reply(ctx, from, &reply),
            Frame::Disconnect(_) => self.handle_disconnect(ctx, from),
            Frame::ForwardJoin(walk) => self.handle_forward_join(ctx, from, &walk),
            Frame::Shuffle(records) => self.handle_shuffle(ctx, from, &records),
            Frame::ShuffleReply(records) => self.remember_all(ctx, &records),
            Frame::Records(records) => self.handle_records(ctx, from, &records),
            Frame::Removals(told) => self.handle_removals(ctx, from, &told),
            Frame::RosterDigest(digest) => self.handle_roster_digest(ctx, from, &digest),
            Frame::Probe(probe) => self.handle_probe(ctx, from, &probe),
            Frame::ProbeReply(probe) => self.handle_probe_reply(&probe),
            other => self.handle_tree(ctx, from, other),
        }
    }

    fn handle_tree(&mut self, ctx: &mut Ctx<'_>, from: NodeId, frame: Frame) {
        match frame {
            Frame::Candidates(told) => self.handle_candidates(ctx, from, &told),
            Frame::Advert(advert) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_advert(sight, from, advert, acts));
                if self.near.is_tried(&from) {
                    self.maybe_hand_over(ctx);
                }
            }
            Frame::Pulse(pulse) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_pulse(sight, from, pulse.number, acts));
            }
            Frame::Crown(crown) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_crown(sight, &from, &crown, acts));
            }
            Frame::Appoint(appoint) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_appoint(sight, &from, appoint, acts));
            }
            Frame::Cores(told) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_cores(sight, &from, &told, acts));
            }
            Frame::Mesh(mesh) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_mesh(sight, from, mesh.on, acts));
            }
            Frame::Graft(graft) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_graft(sight, from, &graft, acts));
            }
            Frame::Stay(_) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_stay(sight, from, acts));
            }
            Frame::GraftReply(reply) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_graft_reply(sight, from, &reply, acts));
            }
            Frame::Prune(_) => {
                self.with_tree(ctx, |tree, sight, acts| tree.handle_prune(sight, &from, acts));
            }
            // Of a link, not of a group; or of a later version.
            _ => {}
        }
        self.maybe_ready(ctx);
    }
}

/// Frames that only neighbours send each other.
fn is_for_neighbours(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Advert(_)
            | Frame::Pulse(_)
            | Frame::Graft(_)
            | Frame::GraftReply(_)
            | Frame::Crown(_)
            | Frame::Appoint(_)
            | Frame::Cores(_)
            | Frame::Mesh(_)
            | Frame::Frontier(_)
            | Frame::News(_)
            | Frame::Stay(_)
            | Frame::Flow(_)
            | Frame::Listen(_)
            | Frame::Hold(_)
            | Frame::PullEarlier(_)
            | Frame::Summary(_)
            | Frame::Compare(_)
            | Frame::AckRequest(_)
            | Frame::Shuffle(_)
            | Frame::ForwardJoin(_)
    )
}
