//! Colours, where they are wanted.

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// Whether to colour what goes to a stream that is, or is not, a terminal.
    pub(crate) fn applies(self, terminal: bool) -> bool {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && !forbidden && !dumb,
        }
    }

    /// Its name, as typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Less important.
    Dim,
    /// Headings.
    Bold,
    /// Errors.
    Red,
    /// All is well.
    Green,
    /// A node's own colour, by this number.
    Hue(u8),
}

/// The 256-colour palette's entries that read well on dark and on light ground.
const HUES: [u8; 12] = [33, 37, 64, 98, 125, 130, 136, 160, 166, 61, 69, 29];

/// `text` in a style, if colours are on.
pub(crate) fn paint(on: bool, style: Style, text: &str) -> String {
    if !on || text.is_empty() {
        return text.to_owned();
    }
    match style {
        Style::Dim => format!("\u{1b}[2m{text}\u{1b}[0m"),
        Style::Bold => format!("\u{1b}[1m{text}\u{1b}[0m"),
        Style::Red => format!("\u{1b}[1;31m{text}\u{1b}[0m"),
        Style::Green => format!("\u{1b}[32m{text}\u{1b}[0m"),
        Style::Hue(hue) => format!("\u{1b}[1;38;5;{hue}m{text}\u{1b}[0m"),
    }
}

/// The colour of a node: the same everywhere, by its id.
pub(crate) fn of_node(node: &str) -> Style {
    let sum = node.bytes().fold(2_166_136_261_u32, |sum, b| (sum ^ u32::from(b)).wrapping_mul(16_777_619));
    Style::Hue(HUES[sum as usize % HUES.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_wins_over_the_terminal() {
        assert!(ColorChoice::Always.applies(false));
        assert!(!ColorChoice::Never.applies(true));
        assert!(!ColorChoice::Auto.applies(false));
    }

    #[test]
    fn nothing_is_painted_when_off() {
        assert_eq!(paint(false, Style::Red, "x"), "x");
        assert_eq!(paint(true, Style::Red, ""), "");
        assert_eq!(of_node("12D3"), of_node("12D3"));
    }
}
