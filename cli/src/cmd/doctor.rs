//! `doctor`: what may stand in the way, and what to do about it.

use serde::Serialize;
use treecast_node::exit;

use crate::doctor::{Check, Verdict, examine};
use crate::failure::{Stop, bug};
use crate::output::{Screen, Style, clean_line, paint};
use crate::settings::Settings;

pub(super) async fn run(settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let verdict = examine(settings, |check| tell(screen, check)).await?;
    if screen.json {
        as_json(screen, "doctor", &verdict)?;
    } else {
        let Verdict { ok, sentence, command } = &verdict;
        let style = if *ok { Style::Bold } else { Style::Red };
        screen.say("")?;
        screen.say(&paint(screen.color, style, &clean_line(sentence)))?;
        screen.say(&format!("  {}", paint(screen.color, Style::Bold, &clean_line(command))))?;
    }
    Ok(if verdict.ok { 0 } else { exit::PARTLY })
}

fn tell(screen: &Screen, check: &Check) -> Result<(), Stop> {
    if screen.json {
        return as_json(screen, "check", check);
    }
    let (mark, style) = if check.ok { ("ok", Style::Dim) } else { ("!!", Style::Red) };
    let mark = paint(screen.color, style, mark);
    screen.say(&format!("{mark}  {:<9}  {}", check.name, clean_line(&check.what)))?;
    let more = [&check.why, &check.fix].into_iter().filter(|part| !part.is_empty());
    let mut more = more.filter(|_| !check.ok || screen.verbose > 0);
    more.try_for_each(|part| screen.say(&format!("               {}", clean_line(part))))
}

/// The object, its type first.
fn as_json(screen: &Screen, kind: &str, value: &impl Serialize) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Typed<'a, T> {
        r#type: &'a str,
        #[serde(flatten)]
        value: &'a T,
    }
    let text = serde_json::to_string(&Typed { r#type: kind, value });
    screen.say(&text.map_err(|error| bug(format!("An answer cannot be written: {error}.")))?)
}
