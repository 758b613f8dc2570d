//! `file announce|ls|get|rm`.

use std::io;
use std::path::Path;

use tokio::sync::mpsc;

use super::connection::{Incoming, Outgoing};
use super::protocol::{FileLine, FileSpread, FormerLine, GetRequest, Line, ProgressLine};
use crate::exchange::{FileInfo, FormerHolder, GetFile, OnConflict, Progress};
use crate::failure::{Failure, exit};
use crate::handle::Node;
use treecast_overlay::NodeId;

pub(super) async fn announce(node: &Node, path: &str, group: &str) -> Result<Line, Failure> {
    Ok(Line::File(Box::new(file(node.announce(Path::new(path), group).await?))))
}

pub(super) async fn list(node: &Node, group: Option<&str>) -> Result<Vec<Line>, Failure> {
    let line = |info: FileInfo| {
        let holders = info.holders.iter().map(|it| (it.node, it.nick.clone()));
        let former = info.former.iter().map(|it| (it.node, it.nick.clone()));
        let nicks: Vec<_> = holders.chain(former).collect();
        let spread = FileSpread {
            have: info.holders.len(),
            of: info.members,
            holders: info.holders.iter().map(|it| it.node.to_string()).collect(),
            held: info.held,
            changed: info.ending.is_some(),
            ending: info.ending.map(|it| it.name().to_owned()),
            former: info.former.iter().filter(|it| it.node != node.id()).map(former_line).collect(),
            withdrawn: info.is_withdrawn(),
        };
        let mut line = file(info);
        line.nicks = named(&nicks);
        line.spread = Some(spread);
        Line::File(Box::new(line))
    };
    Ok(node.files(group).await?.into_iter().map(line).collect())
}

pub(super) async fn remove(node: &Node, what: &str) -> Result<Line, Failure> {
    let dropped = node.drop_file(what).await?;
    Ok(Line::File(Box::new(FileLine { withdrawn_in: dropped.withdrawn_in, ..file(dropped.info) })))
}

fn former_line(it: &FormerHolder) -> FormerLine {
    FormerLine { node: it.node.to_string(), event: it.ending.name().to_owned() }
}

/// Fetches for as long as the client listens.
pub(super) async fn get(
    node: &Node,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    request: GetRequest,
) -> io::Result<()> {
    let on_conflict = match request.on_conflict.as_deref() {
        None | Some("resume") => OnConflict::Resume,
        Some("rename") => OnConflict::Rename,
        Some("overwrite") => OnConflict::Overwrite,
        Some("fail") => OnConflict::Fail,
        Some(other) => return outgoing.end(Err(unusable(other))).await,
    };
    let GetRequest { what, out, wait, .. } = request;
    let (tell, mut told) = mpsc::unbounded_channel();
    let get = GetFile { what, out: out.into(), on_conflict, wait };
    // Told once a second: whoever does not read them is not waited for.
    let getting = node.get_file(get, move |progress| drop(tell.send(progress)));
    tokio::pin!(getting);
    loop {
        tokio::select! {
            biased;
            () = incoming.closed() => return Ok(()),
            Some(it) = told.recv() => outgoing.send(&Line::Progress(progress(it))).await?,
            got = &mut getting => {
                while let Ok(it) = told.try_recv() {
                    outgoing.gather(&Line::Progress(progress(it))).await?;
                }
                return match got {
                    Ok(got) => {
                        let mut line = file(got.info);
                        line.path = Some(got.path.display().to_string());
                        line.liars = got.liars.iter().map(|(node, _)| node.to_string()).collect();
                        line.nicks = named(&got.liars);
                        outgoing.send(&Line::File(Box::new(line))).await?;
                        outgoing.end(Ok(0)).await
                    }
                    Err(error) => outgoing.end(Err(error.into())).await,
                };
            }
        }
    }
}

fn unusable(value: &str) -> Failure {
    let fix = "Use a `treecast` of the node's version.";
    let why = format!("{value:?} says nothing of what to do if something lies there.");
    Failure::new("usage", exit::USAGE, "The file was not fetched.", why, fix)
}

fn named(nodes: &[(NodeId, String)]) -> std::collections::BTreeMap<String, String> {
    let named = nodes.iter().filter(|(_, nick)| !nick.is_empty());
    named.map(|(node, nick)| (node.to_string(), nick.clone())).collect()
}

fn file(info: FileInfo) -> FileLine {
    FileLine {
        hash: info.offer.hash.to_string(),
        name: info.offer.name,
        size: info.offer.size,
        group: info.group,
        source: info.source.to_string(),
        nick: info.nick,
        folder: info.offer.manifest.is_some(),
        place: None,
        spread: None,
        path: info.path.map(|it| it.display().to_string()),
        withdrawn_in: Vec::new(),
        liars: Vec::new(),
        nicks: Default::default(),
    }
}

fn progress(it: Progress) -> ProgressLine {
    let ids = |nodes: &[(NodeId, String)]| nodes.iter().map(|(node, _)| node.to_string()).collect();
    ProgressLine {
        hash: it.hash.to_string(),
        done: it.done,
        size: it.size,
        rate: it.rate as u64,
        eta_s: it.eta.map(|eta| eta.as_secs_f64().ceil() as u64),
        nicks: named(&[&it.sources[..], &it.liars[..]].concat()),
        liars: ids(&it.liars),
        sources: ids(&it.sources),
    }
}
