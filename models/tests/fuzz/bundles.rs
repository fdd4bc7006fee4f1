//! A bundle's manifest.

use std::fs;

use seeward_models::bundle::{Bundle, MANIFEST_FILE};

use crate::damage::damaged;
use crate::{check_message, fuzz, golden};

#[test]
fn damaged_manifests_are_read_or_refused() {
    let bundle = golden("bundles/qwen2");
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&bundle).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let manifest = fs::read(bundle.join(MANIFEST_FILE)).unwrap();
    fuzz(100, damaged(vec![manifest]), |bytes| {
        fs::write(copy.path().join(MANIFEST_FILE), &bytes).unwrap();
        check_message(Bundle::open(copy.path()))?;
        Ok(())
    });
}
