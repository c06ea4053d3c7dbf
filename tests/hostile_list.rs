//! A list with hostile or broken rows: good rows come back octet for octet, bad ones get a reason, none is
//! lost, and nothing panics.

use std::io::{Cursor, Read, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use postroad::campaign::import::{ImportError, ImportJob, ImportProgress, ImportTotals, import};
use postroad::campaign::list::{List, ListError, ListFormat, ListSource, addresses};
use postroad::campaign::segment::Segment;
use postroad::campaign::spool::Spool;
use postroad::suppression::Suppression;
use proptest::prelude::*;

/// Imports `list` into `folder`, until `on_segment` breaks.
fn import_into(
    folder: &Path,
    list: List,
    suppression: &Suppression,
    on_segment: impl FnMut(Arc<Segment>) -> ControlFlow<()> + Send,
) -> Result<ImportTotals, ImportError> {
    let job = ImportJob {
        audience: list.into(),
        spool: &Spool::open(&folder.join("spool")).unwrap(),
        rejected: folder.join("rejected.csv"),
        suppression,
        rejected_max: None,
        stop: &AtomicBool::new(false),
        progress: &ImportProgress::default(),
    };
    import(job, on_segment)
}

fn open(source: &ListSource, octets: &[u8]) -> Result<List, ListError> {
    List::open(source, Some(Box::new(Cursor::new(octets.to_vec()))))
}

struct Imported {
    totals: ImportTotals,
    /// Row, address, fields; in order of row.
    recipients: Vec<(u64, String, Vec<String>)>,
    rejected: Vec<(u64, String, String)>,
}

fn outcome(folder: &Path, totals: ImportTotals) -> Imported {
    let spool = Spool::open(&folder.join("spool")).unwrap();
    let mut recipients = Vec::new();
    for segment in spool.iter() {
        let spans: u32 = segment.spans().map(|span| span.count).sum();
        assert_eq!(spans, segment.len());
        for span in segment.spans() {
            for index in span.first..span.first + span.count {
                let recipient = segment.recipient(index).unwrap();
                assert_eq!(recipient.address.domain(), span.domain);
                let fields = recipient.fields().map(str::to_owned).collect();
                recipients.push((recipient.row, recipient.address.to_string(), fields));
                let by_row = segment.recipient_of_row(recipient.row).unwrap().unwrap();
                assert_eq!(by_row.id, recipient.id);
            }
        }
    }
    recipients.sort();
    let mut rejected = csv::Reader::from_path(folder.join("rejected.csv")).unwrap();
    assert_eq!(rejected.headers().unwrap(), ["row", "address", "reason"].as_slice());
    let rejected: Vec<_> = rejected.deserialize().map(Result::unwrap).collect();
    let ImportTotals { rows, invalid, left_out, duplicate, suppressed, accepted, .. } = totals;
    assert_eq!(rows, invalid + left_out.sum() + duplicate + suppressed + accepted);
    assert_eq!((accepted, invalid), (recipients.len() as u64, rejected.len() as u64));
    Imported { totals, recipients, rejected }
}

fn import_octets(source: &ListSource, octets: &[u8]) -> Imported {
    let folder = tempfile::tempdir().unwrap();
    let list = open(source, octets).unwrap();
    let totals =
        import_into(folder.path(), list, &Suppression::none(), |_| ControlFlow::Continue(())).unwrap();
    assert!(totals.complete);
    outcome(folder.path(), totals)
}

/// Text that breaks careless programs.
fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("a\r\nRCPT TO:<b@c.test>\r\n".into()),
        Just("\0\0".into()),
        Just("\"\"\",\"\n\",".into()),
        Just("\u{202e}evil\u{2066}".into()),
        Just("{{ secret }}{% raw %}".into()),
        Just("x".repeat(20_000)),
        "\\PC{0,40}",
        any::<String>(),
    ]
}

fn address(row: usize) -> String {
    format!("ann{row}@{}.test", ["one", "two", "three"][row % 3])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn fields_come_back_octet_for_octet_from_csv(rows in prop::collection::vec((hostile_text(), hostile_text()), 1..20)) {
        // Written by the csv crate, which our reader does not use.
        let mut list = csv::Writer::from_writer(Vec::new());
        list.write_record(["First Name", "email", "2nd"]).unwrap();
        for (row, (first, second)) in rows.iter().enumerate() {
            list.write_record([first, &address(row), second]).unwrap();
        }
        let imported = import_octets(&ListSource::new("list"), &list.into_inner().unwrap());
        prop_assert_eq!(imported.totals.accepted, rows.len() as u64);
        for (row, (first, second)) in rows.into_iter().enumerate() {
            let expected = (row as u64 + 1, address(row), vec![first, address(row), second]);
            prop_assert_eq!(&imported.recipients[row], &expected);
        }
    }

    #[test]
    fn fields_come_back_octet_for_octet_from_ndjson(rows in prop::collection::vec(hostile_text(), 1..20)) {
        // Written by serde_json.
        let line = |(row, text)| format!("{}\n", serde_json::json!({"name": text, "email": address(row)}));
        let list: String = rows.iter().enumerate().map(line).collect();
        let source = ListSource { columns: vec![("name".into(), "name".into())], ..ListSource::new("list") };
        let imported = import_octets(&source, list.as_bytes());
        for (row, text) in rows.into_iter().enumerate() {
            prop_assert_eq!(&imported.recipients[row], &(row as u64 + 1, address(row), vec![text]));
        }
    }

    #[test]
    fn any_octets_are_rows_that_add_up(octets in prop::collection::vec(any::<u8>(), 0..2000), ndjson in any::<bool>()) {
        let format = if ndjson { ListFormat::Ndjson } else { ListFormat::Csv };
        let columns = vec![("name".into(), "name".into())];
        let source = ListSource { format: Some(format), columns, ..ListSource::new("list") };
        let head: &[u8] = if ndjson { b"" } else { b"email,name\n" };
        import_octets(&source, &[head, &octets].concat());
    }

    /// Octets that mean something to a parser, so that more of it is reached.
    #[test]
    fn any_mix_of_syntax_is_rows_that_add_up(pieces in prop::collection::vec(prop::sample::select(&[
        "\"", ",", "\n", "\r", "a@b.test", "{", "}", "\"email\":", "\"name\":", "null", "1e9", "[", "\\u00", "\\ud800", "\u{fffd}", " ",
    ][..]), 0..80), ndjson in any::<bool>()) {
        let format = if ndjson { ListFormat::Ndjson } else { ListFormat::Csv };
        let columns = vec![("name".into(), "name".into())];
        let source = ListSource { format: Some(format), columns, ..ListSource::new("list") };
        let head = if ndjson { "" } else { "email,name\n" };
        import_octets(&source, format!("{head}{}", pieces.concat()).as_bytes());
    }
}

#[test]
fn bad_rows_get_their_number_address_and_reason() {
    let huge = "x".repeat(70_000);
    let list = [
        b"email,name\n".to_vec(),
        b"ann@one.test,Ann\n".to_vec(),
        b"bob@one.test,B\xf6b\n".to_vec(),
        b"carl@one.test\n".to_vec(),
        b"dora@one.test,Dora,more\n".to_vec(),
        b"\n\"e,\"\"f\",Eve\n".to_vec(),
        format!("gus@one.test,{huge}\n").into_bytes(),
        b"hal@one.test,Hal\n".to_vec(),
        b"ann@two.test,\"Ann\nida@one.test,Ida\n".to_vec(),
    ]
    .concat();
    let Imported { totals, recipients, rejected } = import_octets(&ListSource::new("list"), &list);
    assert_eq!((totals.rows, totals.accepted), (8, 2));
    let accepted: Vec<_> = recipients.iter().map(|(row, address, _)| (*row, &**address)).collect();
    assert_eq!(accepted, [(1, "ann@one.test"), (7, "hal@one.test")]);
    let expected = [
        (2, "bob@one.test", "not UTF-8"),
        (3, "carl@one.test", "1 fields where the header has 2"),
        (4, "dora@one.test", "3 fields where the header has 2"),
        (5, "e,\"f", "no @"),
        (6, "gus@one.test", "longer than 64 KiB"),
        (8, "ann@two.test", "a quote is opened"),
    ];
    assert_eq!(rejected.len(), expected.len());
    for ((row, address, reason), expected) in rejected.iter().zip(expected) {
        assert_eq!((*row, &**address), (expected.0, expected.1));
        assert!(reason.contains(expected.2), "{reason}");
    }
}

#[test]
fn compressed_lists_read_like_plain_ones_whatever_they_are_called() {
    let plain = "\u{feff}Name,EMAIL\r\nAnn,ann@one.test\r\nBob,bob@two.test\r\n";
    let (first, second) = plain.split_at(30);
    let gzip = |text: &str| {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        member.write_all(text.as_bytes()).unwrap();
        member.finish().unwrap()
    };
    let gzipped = [gzip(first), gzip(second)].concat();
    let zstd =
        [zstd::encode_all(first.as_bytes(), 1).unwrap(), zstd::encode_all(second.as_bytes(), 1).unwrap()];
    for (name, octets) in [
        ("list.csv", plain.as_bytes()),
        ("-", plain.as_bytes()),
        ("list.csv.gz", &gzipped),
        ("list", &gzipped),
        ("list.csv.zst", &zstd.concat()),
        ("-", &zstd.concat()),
    ] {
        let source = ListSource { address_column: "EMAIL".into(), ..ListSource::new(name) };
        assert_eq!(open(&source, octets).unwrap().columns().names(), ["name", "email"]);
        let imported = import_octets(&source, octets);
        assert_eq!(
            imported.recipients[1],
            (2, "bob@two.test".into(), vec!["Bob".into(), "bob@two.test".into()])
        );
    }
    let cut = open(&ListSource::new("list.gz"), &gzipped[..gzipped.len() - 5]);
    let folder = tempfile::tempdir().unwrap();
    let cut =
        cut.map(|list| import_into(folder.path(), list, &Suppression::none(), |_| ControlFlow::Continue(())));
    assert!(matches!(
        cut,
        Err(ListError::NoColumn { .. }) | Ok(Err(ImportError::List(ListError::Read { .. })))
    ));
}

#[test]
fn lists_without_the_columns_asked_for_are_refused_by_name() {
    let refused = |source: &ListSource, octets: &[u8]| open(source, octets).unwrap_err().to_string();
    let source = ListSource::new("people.csv");
    assert!(refused(&source, b"mail,name\n").contains("no column \"email\"; it has mail, name"));
    assert!(refused(&source, b"").contains("empty"));
    assert!(refused(&source, b"\xff\xfee\0m\0a\0i\0l\0").contains("UTF-16"));
    let source = ListSource { columns: vec![("x".into(), "y".into())], ..source };
    assert!(refused(&source, b"email\n").contains("no column \"y\""));
    let source = ListSource { delimiter: b'"', ..source };
    assert!(matches!(open(&source, b"email\n"), Err(ListError::Delimiter)));
}

#[test]
fn columns_become_names_a_template_can_say() {
    let columns = |head: &str| {
        let list = open(&ListSource::new("list"), head.as_bytes()).unwrap();
        list.columns().names().join(" ")
    };
    assert_eq!(
        columns("email,First Name,2nd,Prénom,,first-name\n"),
        "email first_name _2nd pr_nom column_5 first_name_2"
    );
    assert_eq!(columns("{\"email\":1,\"First Name\":2}\n{\"x\":1}"), "email first_name");
}

#[test]
fn one_address_is_mailed_once_and_a_suppressed_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.txt");
    std::fs::write(&file, "# comment\n\nGone@one.test\n@closed.test\nnonsense line\n\"q,r\"@one.test\n")
        .unwrap();
    let suppression = Suppression::load(&[file]).unwrap();
    let list = "email\nann@one.test\nANN@One.Test\ngone@one.test\ngone@one.test\nx@closed.test\nx@open.closed.test\n\
                \"\"\"ann\"\"@one.test\"\n\"\"\"q,r\"\"@one.test\"\n";
    let opened = open(&ListSource::new("list"), list.as_bytes()).unwrap();
    let totals = import_into(folder.path(), opened, &suppression, |_| ControlFlow::Continue(())).unwrap();
    let Imported { totals, recipients, .. } = outcome(folder.path(), totals);
    assert_eq!((totals.accepted, totals.duplicate, totals.suppressed, totals.invalid), (2, 2, 4, 0));
    let mailed: Vec<&str> = recipients.iter().map(|(_, address, _)| &**address).collect();
    assert_eq!(mailed, ["ann@one.test", "x@open.closed.test"]);
    let all = addresses(&ListSource::new("list"), Some(Box::new(Cursor::new(list)))).unwrap();
    assert_eq!(all.map(Result::unwrap).count(), 5);
}

#[test]
fn a_list_of_one_line_without_a_line_end_has_one_row() {
    let imported = import_octets(&ListSource::new("list"), b"{\"email\":\"ann@one.test\"}");
    assert_eq!((imported.totals.rows, imported.totals.accepted), (1, 1));
    assert_eq!(import_octets(&ListSource::new("list"), b"email").totals.rows, 0);
}

/// Rows of every kind, more than the first two segments hold.
fn long_list(rows: usize) -> String {
    let mut list = "email,n\n".to_owned();
    for row in 0..rows {
        match row % 10 {
            7 => list.push_str(&format!("{},{row}\n", address(row - 5))),
            9 => list.push_str(&format!("nobody,{row}\n")),
            _ => list.push_str(&format!("{},{row}\n", address(row))),
        }
    }
    list
}

#[test]
fn an_import_goes_on_from_its_last_segment_as_if_it_had_not_stopped() {
    const ROWS: usize = 50_000;
    let list = long_list(ROWS);
    let whole = import_octets(&ListSource::new("list"), list.as_bytes());
    assert_eq!(whole.totals.rows, ROWS as u64);
    assert_eq!((whole.totals.invalid, whole.totals.duplicate), (ROWS as u64 / 10, ROWS as u64 / 10));

    let folder = tempfile::tempdir().unwrap();
    let opened = || open(&ListSource::new("list"), list.as_bytes()).unwrap();
    for stops in 1..10 {
        let stop_at_each = |_| if stops < 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        // What a killed process leaves: half a segment under another name, rejected rows not yet sealed.
        std::fs::create_dir_all(folder.path().join("spool")).unwrap();
        std::fs::write(folder.path().join("spool/000001.seg.tmp"), "half").unwrap();
        let mut rejected = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.path().join("rejected.csv"))
            .unwrap();
        rejected.write_all(b"7,\"half a ro").unwrap();
        let totals = import_into(folder.path(), opened(), &Suppression::none(), stop_at_each).unwrap();
        if totals.complete && totals == whole.totals {
            let resumed = outcome(folder.path(), totals);
            assert!(stops == 4, "stopped {stops} times");
            assert!(resumed.recipients == whole.recipients && resumed.rejected == whole.rejected);
            return;
        }
    }
    panic!("never complete");
}

#[test]
fn a_list_that_changed_since_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let list = long_list(20_000);
    let opened = |list: &str| open(&ListSource::new("list"), list.as_bytes()).unwrap();
    import_into(folder.path(), opened(&list), &Suppression::none(), |_| ControlFlow::Break(())).unwrap();
    let again = |list: &str| {
        let result =
            import_into(folder.path(), opened(list), &Suppression::none(), |_| ControlFlow::Continue(()));
        result.unwrap_err().to_string()
    };
    assert!(again(&long_list(1000)).contains("it has 1000 rows, 4096 were imported"));
    assert!(again(&list.replacen("ann0@", "anne0@", 1)).contains("octets long"));
    assert!(again(&list.replacen("email,n", "email,m", 1)).contains("columns are others"));
}

#[test]
fn a_list_ends_with_a_segment_that_says_so_even_at_a_boundary_and_when_empty() {
    for (rows, segments) in [(0, 1), (1, 1), (4096, 2), (4097, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let list = (0..rows).fold("email\n".to_owned(), |list, row| list + &address(row) + "\n");
        let list = open(&ListSource::new("list"), list.as_bytes()).unwrap();
        import_into(folder.path(), list, &Suppression::none(), |_| ControlFlow::Continue(())).unwrap();
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        assert_eq!(
            (spool.len(), spool.is_complete(), spool.totals().accepted),
            (segments, true, rows as u64)
        );
    }
}

/// Gives its text, then waits to be let go, as a pipe does whose writer is slow.
struct SlowPipe {
    text: Cursor<Vec<u8>>,
    go_on: mpsc::Receiver<()>,
}

impl Read for SlowPipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let octets = self.text.read(buffer)?;
        if octets == 0 {
            let _ = self.go_on.recv();
        }
        Ok(octets)
    }
}

#[test]
fn what_has_come_through_a_slow_pipe_is_sealed_before_the_rest_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (go_on, wait) = mpsc::channel();
    let pipe =
        SlowPipe { text: Cursor::new(b"email\nann@one.test\nbob@one.test\nhalf a r".to_vec()), go_on: wait };
    let list = List::open(&ListSource::new("-"), Some(Box::new(pipe))).unwrap();
    let mut sizes = Vec::new();
    let on_segment = |segment: Arc<Segment>| {
        sizes.push(segment.len());
        // After the end nobody waits any more.
        let _ = go_on.send(());
        ControlFlow::Continue(())
    };
    let totals = import_into(folder.path(), list, &Suppression::none(), on_segment).unwrap();
    assert_eq!(sizes, [2, 0]);
    assert_eq!((totals.rows, totals.invalid), (3, 1));
}

#[test]
fn an_import_stopped_in_the_middle_of_a_row_that_was_slow_to_come_goes_on() {
    // Whatever had come of the third row when the first two were sealed is no part of them.
    for half in ["", "\n", "cy@one", "\"cy@on"] {
        let folder = tempfile::tempdir().unwrap();
        let (go_on, wait) = mpsc::channel();
        let text = format!("email\nann@one.test\r\nbob@one.test\r{half}");
        let pipe = SlowPipe { text: Cursor::new(text.into_bytes()), go_on: wait };
        let list = List::open(&ListSource::new("-"), Some(Box::new(pipe))).unwrap();
        let stopped = import_into(folder.path(), list, &Suppression::none(), |_| {
            let _ = go_on.send(());
            ControlFlow::Break(())
        });
        assert_eq!(stopped.unwrap().rows, 2, "{half:?}");
        let whole = b"email\nann@one.test\r\nbob@one.test\r\ncy@one.test\r\n".to_vec();
        let list = open(&ListSource::new("-"), &whole).unwrap();
        let on = |_| ControlFlow::Continue(());
        let totals = import_into(folder.path(), list, &Suppression::none(), on).unwrap();
        assert_eq!((totals.rows, totals.accepted, totals.complete), (3, 3, true), "{half:?}");
    }
}

#[test]
fn a_list_of_many_columns_takes_no_more_memory_than_one_of_many_rows() {
    let columns = 2_000;
    let mut list = (0..columns).fold("email".to_owned(), |list, column| list + &format!(",c{column}")) + "\n";
    for row in 0..4_096 {
        list += &address(row);
        list.extend(std::iter::repeat_n(',', columns));
        list.push('\n');
    }
    let folder = tempfile::tempdir().unwrap();
    let list = open(&ListSource::new("list"), list.as_bytes()).unwrap();
    let mut ends = Vec::new();
    import_into(folder.path(), list, &Suppression::none(), |segment| {
        ends.push(segment.len() as usize * (columns + 2));
        ControlFlow::Continue(())
    })
    .unwrap();
    // 24 MiB of ends, four octets each.
    assert!(ends.iter().all(|&ends| ends <= (24 << 20) / 4 + columns + 2), "{ends:?}");
    assert_eq!(ends.iter().sum::<usize>(), 4_096 * (columns + 2));
}

#[test]
fn more_refused_rows_than_allowed_stop_the_import() {
    let folder = tempfile::tempdir().unwrap();
    let job = ImportJob {
        audience: open(&ListSource::new("list"), b"email\na\nb\nc\n").unwrap().into(),
        spool: &Spool::open(&folder.path().join("spool")).unwrap(),
        rejected: folder.path().join("rejected.csv"),
        suppression: &Suppression::none(),
        rejected_max: Some(1),
        stop: &AtomicBool::new(false),
        progress: &ImportProgress::default(),
    };
    let error = import(job, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, ImportError::TooManyRejected { rejected: 2, max: 1, .. }), "{error}");
}

#[test]
fn a_spool_that_cannot_be_written_is_an_error_and_no_half_segment() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(&folder.path().join("spool")).unwrap();
    std::fs::remove_dir(folder.path().join("spool")).unwrap();
    let job = ImportJob {
        audience: open(&ListSource::new("list"), long_list(10_000).as_bytes()).unwrap().into(),
        spool: &spool,
        rejected: folder.path().join("rejected.csv"),
        suppression: &Suppression::none(),
        rejected_max: None,
        stop: &AtomicBool::new(false),
        progress: &ImportProgress::default(),
    };
    let error = import(job, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(
        error.to_string().contains("cannot write segment") && error.to_string().contains("000000.seg"),
        "{error}"
    );
    assert!(spool.is_empty());
}
