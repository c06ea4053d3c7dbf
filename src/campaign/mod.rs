//! A campaign: its manifest, its list made into a spool of segments, and its frozen run on disk.

pub mod archive;
pub mod audience;
pub mod builder;
pub mod condition;
pub mod contest;
pub mod csv;
pub mod decision;
pub mod domains;
pub mod draft;
pub mod duplicates;
pub mod import;
pub mod list;
pub mod lists;
pub mod manifest;
pub mod ndjson;
pub mod operands;
pub mod rejected;
pub mod row;
pub mod run;
pub mod segment;
pub mod selection;
pub mod spool;
pub mod stream;
pub mod variants;
