//! A run at its end: the table that adds up, `report.json`, `report.html`.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::metrics::{InDoubtLine, ProviderLine, Report, VariantLine, VariantResults};

/// Providers shown on the screen; the report has them all.
const LINES_MAX: usize = 10;
/// Recipients in doubt shown on the screen; the report has them all.
const IN_DOUBT_MAX: usize = 3;
/// Characters of a provider's name on the screen: a site of no known provider has its hosts' names for one.
const NAME_MAX: usize = 40;

/// The table a person reads. The last line says whether anything is left to do, and `next` what.
pub fn table(report: &Report, next: &str) -> String {
    let mut text = format!("\n{}\n", report.run);
    for (name, count) in report.totals.parts() {
        if count > 0 || matches!(name, "delivered" | "bounced") {
            let _ = writeln!(text, "  {name:<12} {count:>12}");
        }
    }
    let _ = writeln!(text, "  {:<12} {:>12}", "", "------------");
    let _ = writeln!(text, "  {:<12} {:>12}   {}", "rows", report.totals.rows, balance(report));
    let _ = writeln!(
        text,
        "\n  {} attempts, {} deferrals, {:.0} messages/s",
        report.attempts, report.deferrals, report.messages_per_second
    );
    if !report.providers.is_empty() {
        text.push_str(&providers(&report.providers));
    }
    if let Some(results) = &report.variants {
        text.push_str(&variants(results));
    }
    for line in report.in_doubt.iter().take(IN_DOUBT_MAX) {
        let _ = writeln!(text, "  in doubt: {}, {} ({})", row_of(line), line.address, line.policy);
    }
    if report.in_doubt.len() > IN_DOUBT_MAX {
        let more = report.in_doubt.len() - IN_DOUBT_MAX;
        let _ = writeln!(text, "  and {more} more in doubt, in the report");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    if !report.finished {
        let waiting = report.totals.waiting;
        let _ = writeln!(text, "\n  {waiting} still waiting: {next}");
    }
    text
}

fn row_of(line: &InDoubtLine) -> String {
    let row = line.row;
    line.origin.as_ref().map_or_else(|| format!("row {row}"), |origin| format!("row {row}: {origin}"))
}

fn balance(report: &Report) -> String {
    match report.totals.check() {
        Ok(()) => "adds up".to_owned(),
        Err(error) => format!("DOES NOT ADD UP: {error}"),
    }
}

fn providers(lines: &[ProviderLine]) -> String {
    let mut text =
        format!("\n  {:<NAME_MAX$} {:>10} {:>10} {:>10}\n", "provider", "delivered", "deferred", "bounced");
    for line in lines.iter().take(LINES_MAX) {
        let name = shortened(&line.name);
        let _ = writeln!(
            text,
            "  {name:<NAME_MAX$} {:>10} {:>10} {:>10}",
            line.delivered, line.deferred, line.bounced
        );
    }
    if lines.len() > LINES_MAX {
        let _ = writeln!(text, "  and {} more, in the report", lines.len() - LINES_MAX);
    }
    text
}

/// Results by variant, for a person.
pub(super) fn variants(results: &VariantResults) -> String {
    let mut text = format!(
        "\n  {:<NAME_MAX$} {:>10} {:>10} {:>10} {:>10} {:>10}\n",
        "variant", "recipients", "delivered", "deferred", "bounced", "otherwise"
    );
    for (name, line) in named(results) {
        let otherwise = line.recipients - line.delivered - line.bounced;
        let _ = writeln!(
            text,
            "  {name:<NAME_MAX$} {:>10} {:>10} {:>10} {:>10} {otherwise:>10}",
            line.recipients, line.delivered, line.deferrals, line.bounced
        );
    }
    if let Some(winner) = &results.winner {
        let _ = writeln!(text, "  the winner is {} since {}: {}", winner.variant, winner.at, winner.because);
    }
    text
}

/// All lines, the one of no variant only if somebody is in it.
fn named(results: &VariantResults) -> impl Iterator<Item = (&str, &VariantLine)> {
    let none = Some(("none", &results.none)).filter(|(_, line)| line.recipients + line.deferrals > 0);
    results.variants.iter().map(|line| (&*line.name, line)).chain(none)
}

/// The end of a name, which tells who it is, if the whole is too long for its column.
pub(super) fn shortened(name: &str) -> String {
    match name.chars().count() {
        count if count > NAME_MAX => "…".chars().chain(name.chars().skip(count - NAME_MAX + 1)).collect(),
        _ => name.to_owned(),
    }
}

/// Writes the report as JSON to `path` and as HTML beside it.
///
/// # Errors
/// What the file system says.
pub fn write(report: &Report, path: &Path) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    write_whole(path, &json)?;
    write_whole(&path.with_extension("html"), html(report).as_bytes())
}

/// A reader never sees half a report.
fn write_whole(path: &Path, octets: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, octets)?;
    std::fs::rename(&temporary, path)
}

fn html(report: &Report) -> String {
    let title = escaped(&report.run);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color:#1b1f24}}\
         table{{border-collapse:collapse;width:100%;margin:1rem 0}}th,td{{text-align:right;padding:.3rem .6rem;\
         border-bottom:1px solid #d8dee4;font-variant-numeric:tabular-nums}}th:first-child,td:first-child\
         {{text-align:left}}.sum td{{font-weight:600}}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let _ = writeln!(
        text,
        "<p>{} – {}, {} attempts, {} deferrals, {:.0} messages/s{}</p>",
        escaped(&report.started),
        escaped(&report.ended),
        report.attempts,
        report.deferrals,
        report.messages_per_second,
        if report.finished { "" } else { ", <strong>not finished</strong>" },
    );
    text.push_str("<table><tr><th>disposition</th><th>recipients</th></tr>\n");
    for (name, count) in report.totals.parts() {
        let _ = writeln!(text, "<tr><td>{name}</td><td>{count}</td></tr>");
    }
    let rows = report.totals.rows;
    let _ =
        writeln!(text, "<tr class=\"sum\"><td>rows ({})</td><td>{rows}</td></tr></table>", balance(report));
    text.push_str("<table><tr><th>provider</th><th>delivered</th><th>deferred</th><th>bounced</th></tr>\n");
    for line in &report.providers {
        let name = escaped(&line.name);
        let _ = writeln!(
            text,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            line.delivered, line.deferred, line.bounced
        );
    }
    text.push_str("</table>\n");
    if let Some(results) = &report.variants {
        text.push_str(&html_variants(results));
    }
    if !report.in_doubt.is_empty() {
        text.push_str("<h2>In doubt</h2><table><tr><th>address</th><th>row</th><th>policy</th></tr>\n");
        for line in &report.in_doubt {
            let (address, policy) = (escaped(&line.address), escaped(&line.policy));
            let row = escaped(&row_of(line));
            let _ = writeln!(text, "<tr><td>{address}</td><td>{row}</td><td>{policy}</td></tr>");
        }
        text.push_str("</table>\n");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "<p>Warning: {}</p>", escaped(warning));
    }
    text.push_str("</body></html>\n");
    text
}

fn html_variants(results: &VariantResults) -> String {
    let mut text = "<table><tr><th>variant</th><th>recipients</th><th>delivered</th><th>deferred</th>\
        <th>bounced</th><th>expired</th><th>cancelled</th><th>suppressed</th><th>invalid</th><th>in doubt</th></tr>\n"
        .to_owned();
    for (name, line) in named(results) {
        let VariantLine { recipients, delivered, deferrals, bounced, expired, .. } = line;
        let VariantLine { cancelled, suppressed, invalid, in_doubt, .. } = line;
        let _ = write!(text, "<tr><td>{}</td>", escaped(name));
        for count in
            [recipients, delivered, deferrals, bounced, expired, cancelled, suppressed, invalid, in_doubt]
        {
            let _ = write!(text, "<td>{count}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table>\n");
    if let Some(winner) = &results.winner {
        let (variant, because) = (escaped(&winner.variant), escaped(&winner.because));
        let _ = writeln!(text, "<p>The winner is {variant} since {}: {because}</p>", escaped(&winner.at));
    }
    text
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Totals;

    fn report() -> Report {
        Report {
            run: "welcome-1".into(),
            campaign: "welcome".into(),
            started: "2026-11-22T05:12:00Z".into(),
            ended: "2026-11-22T05:13:00Z".into(),
            finished: false,
            totals: Totals { rows: 10, invalid: 1, delivered: 7, waiting: 2, ..Totals::default() },
            attempts: 9,
            deferrals: 2,
            in_doubt: vec![InDoubtLine {
                row: 3,
                address: "\"<script>\"@one.test".into(),
                policy: "resend".into(),
                origin: None,
            }],
            providers: Vec::new(),
            variants: None,
            warnings: Vec::new(),
            messages_per_second: 0.1,
            journal: crate::metrics::JournalLine::default(),
        }
    }

    #[test]
    fn the_table_says_whether_it_adds_up_and_how_to_go_on() {
        let mut report = report();
        let text = table(&report, "go on with `postroad resume welcome-1`");
        assert!(text.contains("adds up") && text.contains("postroad resume welcome-1"), "{text}");
        report.totals.delivered = 6;
        assert!(
            table(&report, "go on")
                .contains("DOES NOT ADD UP: the counts do not add up: 10 rows were read, 9")
        );
    }

    #[test]
    fn a_long_name_of_a_site_keeps_its_end_and_its_column() {
        let name = "(alt1|alt2|alt3|alt4)?.gmail-smtp-in.l.google.test";
        assert_eq!(shortened(name), "…alt3|alt4)?.gmail-smtp-in.l.google.test");
        assert_eq!(shortened(name).chars().count(), NAME_MAX);
        assert_eq!(shortened("google"), "google");
    }

    #[test]
    fn an_address_cannot_become_markup_in_the_report() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write(&report(), &path).unwrap();
        let html = std::fs::read_to_string(path.with_extension("html")).unwrap();
        assert!(!html.contains("<script") && html.contains("&quot;&lt;script&gt;&quot;@one.test"));
        let again: Report = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(again, report());
    }
}
