//! A row group whose columns may be compressed by zstd: the parquet crate decompresses that by C alone, so pages are read
//! as they are stored and decompressed here, in Rust.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::RowGroupReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use ruzstd::decoding::StreamingDecoder;

/// A row group of a file.
pub(super) struct Group<'a> {
    file: Arc<File>,
    inner: &'a dyn RowGroupReader,
}

impl<'a> Group<'a> {
    /// # Errors
    /// The file cannot be opened again.
    pub(super) fn new(file: &File, inner: &'a dyn RowGroupReader) -> Result<Self> {
        Ok(Self {
            file: Arc::new(file.try_clone()?),
            inner,
        })
    }
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.inner.metadata()
    }

    fn num_columns(&self) -> usize {
        self.inner.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>> {
        let (group, chunk) = (self.metadata(), self.metadata().column(column));
        if !matches!(chunk.compression(), Compression::ZSTD(_)) {
            return self.inner.get_column_page_reader(column);
        }
        let stored = chunk.clone().into_builder();
        let stored = stored.set_compression(Compression::UNCOMPRESSED).build()?;
        let rows = group.num_rows() as usize;
        let pages = SerializedPageReader::new(self.file.clone(), &stored, rows, None)?;
        Ok(Box::new(Zstd(pages)))
    }

    fn get_column_bloom_filter(&self, column: usize) -> Option<&Sbbf> {
        self.inner.get_column_bloom_filter(column)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// Pages as they are stored, decompressed.
struct Zstd(SerializedPageReader<File>);

impl Iterator for Zstd {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Zstd {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.0.get_next_page()?.map(decompressed).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }
}

fn decompressed(mut page: Page) -> Result<Page> {
    match &mut page {
        Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
            *buf = unzipped(buf, 0)?.into();
        }
        // Levels come first, and are never compressed.
        Page::DataPageV2 {
            buf,
            def_levels_byte_len,
            rep_levels_byte_len,
            is_compressed: true,
            ..
        } => {
            let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
            *buf = unzipped(buf, levels)?.into();
        }
        Page::DataPageV2 { .. } => {}
    }
    Ok(page)
}

/// The first `plain` bytes, and the content of the frame after them, if there is one.
fn unzipped(bytes: &[u8], plain: usize) -> Result<Vec<u8>> {
    let broken = |e: &dyn std::fmt::Display| ParquetError::General(format!("zstd: {e}"));
    let Some((levels, mut frame)) = bytes.split_at_checked(plain) else {
        return Err(broken(&"the page ends early"));
    };
    let mut whole = levels.to_vec();
    if !frame.is_empty() {
        let mut decoder = StreamingDecoder::new(&mut frame).map_err(|e| broken(&e))?;
        decoder.read_to_end(&mut whole).map_err(|e| broken(&e))?;
    }
    Ok(whole)
}
