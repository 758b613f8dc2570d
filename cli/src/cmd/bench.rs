//! `bench`: what this machine reaches, with real nodes in this process.

use serde_json::json;
use treecast_overlay::Order;

use crate::args::BenchArgs;
use crate::bench::{self, BenchError, BenchOptions, BenchReport};
use crate::failure::{Stop, bug, usage};
use crate::output::Screen;
use crate::settings::capital;

pub(super) async fn run(args: BenchArgs, screen: &Screen) -> Result<u8, Stop> {
    let BenchArgs { nodes, transport, size, seconds, order, committee, storage } = args;
    if committee.is_some() && order != Order::Total {
        let why = "A committee agrees on a total order, and another was asked for.";
        return Err(
            usage("Nothing was measured.", why, "Add --order total, or leave --committee out.").into()
        );
    }
    let committee = committee.unwrap_or(1);
    let options = BenchOptions { nodes, transport, size, seconds, order, committee, storage };
    let report = bench::run(options).await.map_err(failed)?;
    if screen.json {
        screen.say_json(&as_json(&options, &report))?;
    } else {
        as_text(&options, &report).iter().try_for_each(|line| screen.say(line))?;
    }
    Ok(0)
}

fn failed(error: BenchError) -> Stop {
    match error {
        BenchError::TooFewNodes | BenchError::BadSize | BenchError::BadCommittee | BenchError::NoMemory => {
            usage(
                "Nothing was measured.",
                format!("{}.", capital(&error.to_string())),
                "See `treecast bench --help`.",
            )
            .into()
        }
        other => bug(format!("The bench did not get through: {other}.")).into(),
    }
}

fn as_json(options: &BenchOptions, report: &BenchReport) -> serde_json::Value {
    let mut line = json!(report);
    line["type"] = json!("bench");
    line["nodes"] = json!(options.nodes);
    line["transport"] = json!(options.transport.to_string());
    line["size"] = json!(options.size);
    line["order"] = json!(options.order.name());
    if options.order == Order::Total {
        line["committee"] = json!(options.committee);
    }
    line["storage"] = json!(options.storage);
    line
}

fn as_text(options: &BenchOptions, report: &BenchReport) -> Vec<String> {
    let BenchOptions { nodes, transport, size, order, storage, .. } = options;
    let kept = if *storage { ", each with its store" } else { "" };
    let wire =
        report.wire_per_payload.map_or("not seen".into(), |it| format!("{it:.3} bytes a payload byte"));
    let cpu = report.cpu_us_per_delivery.map_or("unknown".into(), |us| format!("{us:.2} µs"));
    vec![
        format!("{nodes} nodes over {transport}{kept}, {order}, messages of {size} bytes, one source"),
        format!(
            "  to each of {}  {:.0} messages/s, {:.1} MB/s",
            nodes - 1,
            report.messages_per_s,
            report.mb_per_s
        ),
        format!("  processor     {cpu} a delivery"),
        format!("  on the wire   {wire}"),
        format!(
            "  latency       p50 {} µs, p99 {} µs at a tenth of that rate",
            report.latency_us.p50, report.latency_us.p99
        ),
        format!(
            "                p50 {} µs, p99 {} µs one message at a time",
            report.idle_latency_us.p50, report.idle_latency_us.p99
        ),
        format!("  lost          {}; twice {}", report.lost, report.duplicates),
    ]
}
