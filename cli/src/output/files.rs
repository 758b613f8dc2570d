//! Files, for people.

use treecast_node::control::protocol::{Announced, Ended, FileLine, ProgressLine};

use super::clean;
use super::human::span;

/// Bytes as people say them: `2.3 MiB`.
pub(crate) fn size_text(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    match unit {
        "bytes" if bytes == 1 => "1 byte".to_owned(),
        "bytes" => format!("{bytes} bytes"),
        unit => format!("{size:.1} {unit}"),
    }
}

/// What a message that announces a file looks like in a talk, with the command that fetches it.
pub(super) fn announced(file: &Announced) -> String {
    let kind = if file.folder { "folder" } else { "file" };
    let (name, size) = (clean::line(&file.name), size_text(file.size));
    format!("[{kind}] {name} ({size})  treecast file get {}", clean::line(short_hash(&file.hash)))
}

/// What a message that ends an announcement looks like in a talk: it is the word of whoever says it only.
pub(super) fn ended(file: &Ended, who: &str) -> String {
    let what = match file.event.as_str() {
        "changed" => {
            format!("has changed at {who}, and is not served from there until it is announced again")
        }
        "removed" => format!("was removed by {who}, and is not served from there any more"),
        _ => format!("is not offered by {who} any more"),
    };
    format!("[file] {} {what}", clean::line(&file.name))
}

/// A file, where it lies, and who lied about it.
pub(crate) fn file_line(file: &FileLine) -> Vec<String> {
    let name = clean::line(&file.name);
    let mut lines = vec![match &file.path {
        Some(path) => format!("{name} ({}) is here: {}", size_text(file.size), clean::line(path)),
        None => format!("{name} ({})  {}", size_text(file.size), file.hash),
    }];
    if !file.liars.is_empty() {
        let names = who(&file.liars, &file.nicks);
        lines.push(format!("  {names} served other bytes than were announced; nothing of that was kept."));
    }
    lines
}

/// What has become of a file that somebody had, a line each.
pub(crate) fn ended_texts(file: &FileLine) -> Vec<String> {
    let Some(spread) = &file.spread else { return Vec::new() };
    let (name, mut lines) = (clean::line(&file.name), Vec::new());
    if spread.changed {
        let path = file.path.as_deref().map(clean::line).unwrap_or_default();
        lines.push(match spread.ending.as_deref() {
            Some("removed") => format!(
                "! {name} is not at {path} any more, and not served from here: put it back and announce it again, \
                 or forget it:  treecast file rm {}",
                short_hash(&file.hash)
            ),
            _ => format!(
                "! {name} has changed here, and is not served:  treecast file announce {path} --group {}",
                clean::line(&file.group)
            ),
        });
    }
    if spread.withdrawn {
        lines.push(format!("! {name} was withdrawn by {}", clean::line(&file.nick)));
    }
    for it in spread.former.iter().filter(|it| it.event != "withdrawn") {
        let whose = who(std::slice::from_ref(&it.node), &file.nicks);
        lines.push(match it.event.as_str() {
            "removed" => format!("! {name} was removed by {whose} after it was announced"),
            _ => format!("! {name} was changed by {whose} after it was announced"),
        });
    }
    lines
}

/// As much of a hash as names a file.
pub(crate) fn short_hash(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn who(nodes: &[String], nicks: &std::collections::BTreeMap<String, String>) -> String {
    let name = |node: &String| match nicks.get(node) {
        Some(nick) => clean::line(nick).into_owned(),
        None => super::human::short(node),
    };
    nodes.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// How a fetch goes.
pub(crate) fn progress_text(it: &ProgressLine) -> String {
    let share = it.done.saturating_mul(100).checked_div(it.size).unwrap_or(100);
    let mut text = format!("{share} %, {} of {}", size_text(it.done), size_text(it.size));
    if it.done < it.size {
        match it.eta_s {
            Some(left) => text.push_str(&format!(", {}/s, {} left", size_text(it.rate), span(left))),
            None => text.push_str(", waiting for somebody who has the rest"),
        }
    }
    if !it.sources.is_empty() {
        text.push_str(&format!(", from {}", who(&it.sources, &it.nicks)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_had_a_file_and_what_mends_that_are_said() {
        let mut file: FileLine = serde_json::from_value(serde_json::json!({
            "hash": "ab".repeat(32), "name": "plan", "size": 2, "group": "lobby", "source": "12D3KooWabcdef",
            "nick": "Ada", "path": "/x/plan", "have": 0, "of": 2, "holders": [], "held": 0, "changed": false,
            "former": [{"node": "12D3KooWabcdef", "event": "changed"}, {"node": "12D3KooWuvwxyz", "event": "removed"}],
            "nicks": {"12D3KooWabcdef": "Ada"},
        }))
        .expect("a line");
        let told = ended_texts(&file);
        assert_eq!(told[0], "! plan was changed by Ada after it was announced");
        assert_eq!(told[1], "! plan was removed by …uvwxyz after it was announced");
        let spread = file.spread.as_mut().expect("it is listed");
        (spread.former, spread.changed) = (Vec::new(), true);
        assert!(ended_texts(&file)[0].ends_with("treecast file announce /x/plan --group lobby"));
        let spread = file.spread.as_mut().expect("it is listed");
        (spread.ending, spread.withdrawn) = (Some("removed".to_owned()), true);
        let told = ended_texts(&file);
        assert!(told[0].ends_with("treecast file rm abababababab"), "{told:?}");
        assert_eq!(told[1], "! plan was withdrawn by Ada");
    }

    #[test]
    fn sizes_and_progress_read_well() {
        let sizes: Vec<String> = [0, 1, 1023, 1536, 5 << 30].into_iter().map(size_text).collect();
        assert_eq!(sizes, ["0 bytes", "1 byte", "1023 bytes", "1.5 KiB", "5.0 GiB"]);
        let mut it = ProgressLine {
            hash: "ab".into(),
            done: 512,
            size: 1024,
            rate: 256,
            eta_s: Some(2),
            sources: vec!["12D3KooWabcdef".into()],
            nicks: [("12D3KooWabcdef".to_owned(), "Ada\u{1b}".to_owned())].into(),
            liars: Vec::new(),
        };
        let text = progress_text(&it);
        assert!(text.starts_with("50 %, 512 bytes of 1.0 KiB, 256 bytes/s, 2 s left, from Ada"), "{text}");
        assert!(!text.contains('\u{1b}'));
        (it.eta_s, it.sources) = (None, Vec::new());
        assert!(progress_text(&it).ends_with("waiting for somebody who has the rest"));
    }
}
