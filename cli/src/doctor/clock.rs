//! The clock: lives are numbered by it, and messages show it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Check, finding};

/// Between these, a clock may be right: when this was written, and the end of its certificates'
/// century. Unix seconds.
const FROM: u64 = 1_735_689_600;
const TO: u64 = 4_102_444_800;

/// Files may be so much newer than now: network drives have clocks of their own.
const SLACK: Duration = Duration::from_secs(300);

pub(super) fn check(data_dir: &Path) -> Check {
    let now = SystemTime::now();
    let newest = data_dir.read_dir().ok().and_then(|entries| {
        let times = entries.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok());
        times.max()
    });
    judge(now, newest)
}

fn judge(now: SystemTime, newest: Option<SystemTime>) -> Check {
    const NAME: &str = "clock";
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let shown = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default();
    let wrong = |why: String| {
        let fix = "Set it, best by NTP: `timedatectl set-ntp true` does where systemd runs.";
        Check::bad(NAME, finding("The clock is wrong.", why, fix), "timedatectl set-ntp true")
    };
    if !(FROM..TO).contains(&seconds) {
        return wrong(format!("It says {shown}."));
    }
    match newest.and_then(|newest| newest.duration_since(now).ok()).filter(|ahead| *ahead > SLACK) {
        Some(ahead) => wrong(format!(
            "It says {shown}, and a file in the data directory was written {} minutes later than that: it was \
             set back.",
            ahead.as_secs() / 60
        )),
        None => Check::good(NAME, format!("The clock says {shown}, which can be."), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_at_its_beginning_or_set_back_is_wrong() {
        let good = UNIX_EPOCH + Duration::from_secs(FROM + 1_000_000);
        assert!(judge(good, None).ok);
        assert!(judge(good, Some(good + SLACK)).ok);
        assert!(!judge(UNIX_EPOCH + Duration::from_secs(3_600), None).ok);
        let back = judge(good, Some(good + Duration::from_secs(7_200)));
        assert!(!back.ok && back.why.contains("120 minutes later"), "{back:?}");
    }
}
