//! `config`: what is in effect, and where each value came from.

use serde_json::{Value, json};

use crate::failure::Stop;
use crate::host::Addresses;
use crate::output::{Screen, clean_line, table};
use crate::settings::{Origin, Settings};

pub(super) fn run(settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    Addresses::read(settings)?;
    if screen.json {
        for (key, value, from) in settings.rows() {
            let line = json!({"type": "config", "key": key, "value": value, "source": from.kind(), "origin": from.detail()});
            screen.say_json(&line)?;
        }
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = settings.rows().iter().map(row).collect();
    table(&["SETTING", "VALUE", "FROM"], &rows).iter().try_for_each(|line| screen.say(line))?;
    Ok(0)
}

fn row((key, value, from): &(&str, Value, &Origin)) -> Vec<String> {
    let from = from.detail().map_or(from.kind().to_owned(), |detail| format!("{} {detail}", from.kind()));
    vec![(*key).to_owned(), text(value), from]
}

/// A value as people write it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => clean_line(text).into_owned(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
