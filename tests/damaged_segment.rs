//! A damaged segment: said where and what is lost, the rest readable, nothing ever read wrong.

use std::fs;
use std::path::{Path, PathBuf};

use postroad::address::AddressRef;
use postroad::campaign::builder::SegmentBuilder;
use postroad::campaign::segment::{Columns, Segment, SegmentError};
use postroad::campaign::spool::{Spool, SpoolError};
use proptest::prelude::*;

/// Recipients `first..first + rows` with a field of some octets, so that a few thousand fill several blocks.
fn sealed(folder: &Path, number: u32, first_row: u64, rows: u64) -> PathBuf {
    let mut builder = SegmentBuilder::new(&Columns::new(vec!["name".into()]), first_row);
    for row in first_row..first_row + rows {
        let address = format!("ann{row}@{}.test", ["one", "two", "three"][row as usize % 3]);
        builder.push(row, &AddressRef::parse(&address).unwrap(), [name(row).as_str()]).unwrap();
    }
    builder.seal(folder, number).unwrap().path().into()
}

fn name(row: u64) -> String {
    format!("Ann {row} {}", "é".repeat(40))
}

#[test]
fn a_damaged_block_names_file_offset_and_rows_and_leaves_the_others_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = sealed(folder.path(), 0, 1, 10_000);
    let mut octets = fs::read(&path).unwrap();
    let place = octets.len() / 2;
    octets[place] ^= 0x10;
    fs::write(&path, octets).unwrap();

    let segment = Segment::open(&path).unwrap();
    let (mut lost, mut good) = (Vec::new(), 0);
    for index in 0..segment.len() {
        match segment.recipient(index) {
            Ok(recipient) => {
                assert_eq!(recipient.field(0), name(recipient.row));
                good += 1;
            }
            Err(error) => lost.push((index, error)),
        }
    }
    assert!(lost.len() > 100 && good > 9000, "{} lost, {good} good", lost.len());
    let (index, error) = &lost[0];
    let message = error.to_string();
    let SegmentError::Damaged { offset, first, count, row_least, row_greatest, .. } = error else {
        panic!("{error}");
    };
    assert!(*offset <= place as u64 && place as u64 - offset < 200_000);
    assert_eq!((*first, *count as usize), (*index, lost.len()));
    assert!(1 <= *row_least && row_least < row_greatest && *row_greatest <= 10_000);
    for said in
        [path.to_str().unwrap(), &format!("offset {offset}"), &format!("rows {row_least} to {row_greatest}")]
    {
        assert!(message.contains(said), "{message}");
    }
    assert!(error.is_local());
}

#[test]
fn a_segment_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = sealed(folder.path(), 0, 1, 20);
    let octets = fs::read(&path).unwrap();
    for len in 0..octets.len() {
        let cut = folder.path().join("cut.seg");
        fs::write(&cut, &octets[..len]).unwrap();
        assert!(Segment::open(&cut).is_err(), "{len} octets");
    }
    let error = Segment::open(&folder.path().join("absent.seg")).unwrap_err();
    assert!(matches!(error, SegmentError::Read { .. }));
}

proptest! {
    #[test]
    fn whatever_is_overwritten_nothing_is_read_wrong(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = sealed(folder.path(), 0, 1, 300);
        let mut octets = fs::read(&path).unwrap();
        let at = at.index(octets.len());
        let end = octets.len().min(at + with.len());
        octets[at..end].copy_from_slice(&with[..end - at]);
        fs::write(&path, octets).unwrap();
        if let Ok(segment) = Segment::open(&path) {
            for index in 0..segment.len() {
                if let Ok(recipient) = segment.recipient(index) {
                    prop_assert_eq!(recipient.field(0), name(recipient.row));
                }
            }
            for row in 0..400 {
                if let Ok(Some(recipient)) = segment.recipient_of_row(row) {
                    prop_assert_eq!(recipient.row, row);
                }
            }
        }
    }
}

#[test]
fn a_spool_with_a_gap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    sealed(folder.path(), 0, 1, 10);
    let middle = sealed(folder.path(), 1, 11, 10);
    sealed(folder.path(), 2, 21, 10);
    assert_eq!(Spool::open(folder.path()).unwrap().totals().accepted, 30);
    sealed(folder.path(), 1, 12, 9);
    assert!(matches!(Spool::open(folder.path()), Err(SpoolError::OutOfOrder { .. })));
    fs::remove_file(middle).unwrap();
    assert!(matches!(Spool::open(folder.path()), Err(SpoolError::Missing { number: 1, .. })));
}

#[test]
fn reading_far_past_the_bound_of_resident_pages_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..70 {
        sealed(folder.path(), number, 1 + u64::from(number) * 3000, 3000);
    }
    let spool = Spool::open(folder.path()).unwrap();
    for step in 0..20_000u64 {
        let row = 1 + step * 104_729 % 210_000;
        let segment = spool.segment_of_row(row).unwrap();
        let recipient = segment.recipient_of_row(row).unwrap().unwrap();
        assert_eq!((recipient.row, recipient.field(0)), (row, &*name(row)));
        assert_eq!(recipient.field(1), "");
    }
}
