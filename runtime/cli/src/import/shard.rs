//! One Parquet file: its schema, and its rows group by group.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::Row;
use parquet::record::reader::RowIter;
use parquet::schema::printer::print_schema;
use seeward_models::hash::hash;

use super::pages::Group;

/// A Parquet file, open.
pub(super) struct Shard {
    path: PathBuf,
    file: File,
    reader: SerializedFileReader<File>,
}

impl Shard {
    /// # Errors
    /// The file cannot be read, or is no Parquet file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        let file = File::open(path).with_context(place)?;
        let copy = file.try_clone().with_context(place)?;
        let reader = SerializedFileReader::new(copy).with_context(place)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            reader,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the columns, or of the outermost structs.
    pub(super) fn columns(&self) -> BTreeSet<String> {
        let schema = self.reader.metadata().file_metadata().schema();
        let fields = schema.get_fields().iter();
        fields.map(|field| field.name().to_owned()).collect()
    }

    /// Number of row groups.
    pub(super) fn groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    /// Number of rows before a row group.
    pub(super) fn first_row(&self, group: usize) -> u64 {
        let groups = &self.reader.metadata().row_groups()[..group];
        groups.iter().map(|group| group.num_rows() as u64).sum()
    }

    /// Passes each row of a row group to `each`.
    ///
    /// # Errors
    /// The group is damaged, or those of `each`.
    pub(super) fn rows(&self, group: usize, mut each: impl FnMut(Row) -> Result<()>) -> Result<()> {
        let place = || format!("{}: row group {}", self.path.display(), group + 1);
        let inner = self.reader.get_row_group(group).with_context(place)?;
        let reader = Group::new(&self.file, inner.as_ref()).with_context(place)?;
        let reader: &dyn RowGroupReader = &reader;
        let rows = RowIter::from_row_group(None, reader).map_err(|e| anyhow!(e));
        for row in rows.with_context(place)? {
            each(row.with_context(place)?)?;
        }
        Ok(())
    }

    /// sha256 of what the file's footer says: its schema and the place, size and statistics of all its data.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn footer_hash(&self) -> Result<String> {
        let length = self
            .file
            .metadata()
            .with_context(|| self.path.display().to_string())?
            .len();
        Ok(hash(format!(
            "{length} {:?}",
            self.reader.metadata().row_groups()
        )))
    }
}

impl fmt::Display for Shard {
    /// Path, counts and schema.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.reader.metadata().file_metadata();
        let mut schema = Vec::new();
        print_schema(&mut schema, file.schema());
        let (path, rows, groups) = (self.path.display(), file.num_rows(), self.groups());
        writeln!(f, "{path}: {rows} rows in {groups} row groups")?;
        write!(f, "{}", String::from_utf8_lossy(&schema))
    }
}
