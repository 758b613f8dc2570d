//! Prometheus' text format, version 0.0.4: what every scraper reads, and people too.

use std::fmt::{Display, Write};

/// What a family of series is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, until the node starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// A family whose samples are being written. Its name and help stand there already, samples or not.
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

impl Page {
    /// Begins a family; all its samples come before the next begins.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        put(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: &mut self.0, name }
    }

    /// A family of one series, without labels.
    pub(super) fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).put(&[], value);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One sample. `value` prints as a number: an integer, or an `f64`.
    pub(super) fn put(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.page.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            put(self.page, format_args!("{before}{label}=\""));
            text.chars().for_each(|c| escape(self.page, c));
            self.page.push('"');
        }
        if !labels.is_empty() {
            self.page.push('}');
        }
        put(self.page, format_args!(" {value}\n"));
    }
}

fn escape(page: &mut String, c: char) {
    match c {
        '\\' => page.push_str("\\\\"),
        '"' => page.push_str("\\\""),
        '\n' => page.push_str("\\n"),
        c => page.push(c),
    }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_as_the_format_says() {
        let mut page = Page::default();
        let mut family = page.family("a_total", Kind::Counter, "Back\\slash,\nline.");
        family.put(&[("group", "say \"hi\"\\\n名"), ("kind", "x")], 3_u64);
        family.put(&[], 4_u64);
        page.one("b_seconds", Kind::Gauge, "Time.", 0.25);
        assert_eq!(
            page.finish(),
            "# HELP a_total Back\\\\slash,\\nline.\n# TYPE a_total counter\n\
             a_total{group=\"say \\\"hi\\\"\\\\\\n名\",kind=\"x\"} 3\na_total 4\n\
             # HELP b_seconds Time.\n# TYPE b_seconds gauge\nb_seconds 0.25\n"
        );
    }
}
