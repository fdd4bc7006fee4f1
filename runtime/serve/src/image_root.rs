//! The folder of images that requests name by path. Files are opened beneath it by the kernel, which leaves no time for a
//! link to be exchanged between a check and the reading.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::errors::Refusal;

/// The most characters of a path in an error.
const SHOWN: usize = 200;

/// Where paths lead.
#[derive(Debug)]
pub(crate) enum ImageRoot {
    /// Requests may name no files.
    None,
    /// Files beneath a folder.
    Beneath {
        folder: OwnedFd,
        /// The folder as given and without symbolic links: absolute paths may begin with either.
        names: Vec<PathBuf>,
    },
    /// Any file; relative paths start at the folder.
    Anywhere(PathBuf),
}

impl ImageRoot {
    /// # Errors
    /// No such folder.
    pub(crate) fn open(root: Option<PathBuf>, allow_outside: bool) -> Result<Self> {
        let Some(root) = root else {
            return Ok(Self::None);
        };
        let place = || format!("--image-root {}", root.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&root, flags, Mode::empty()).with_context(place)?;
        if allow_outside {
            return Ok(Self::Anywhere(root));
        }
        let real = root.canonicalize().with_context(place)?;
        Ok(Self::Beneath {
            folder,
            names: vec![root, real],
        })
    }

    /// The content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// No root, a path out of it, another kind of file, a larger one, or one that cannot be read.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Refusal> {
        let place = |problem: String| {
            let shown: String = path.chars().take(SHOWN).collect();
            Refusal::unprocessable(format!("image {shown}: {problem}"))
        };
        let opened = self.open_file(Path::new(path)).map_err(&place)?;
        read_regular(opened, limit).map_err(place)
    }

    fn open_file(&self, path: &Path) -> Result<File, String> {
        // A pipe would block without NONBLOCK.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = match self {
            Self::None => {
                let problem = "expected a data URL or base64: the service reads no files (--image-root permits it)";
                return Err(problem.to_owned());
            }
            Self::Anywhere(root) => rustix::fs::open(root.join(path), flags, Mode::empty()),
            Self::Beneath { folder, names } => {
                let relative = names.iter().find_map(|name| path.strip_prefix(name).ok());
                let path = relative.unwrap_or(path);
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)
            }
        };
        opened.map(File::from).map_err(|error| match error {
            rustix::io::Errno::XDEV => "leads out of the image root".to_owned(),
            error => std::io::Error::from(error).to_string(),
        })
    }
}

fn read_regular(file: File, limit: u64) -> Result<Vec<u8>, String> {
    let metadata = file.metadata().map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("expected a file, got a folder, pipe or device".to_owned());
    }
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|e| e.to_string())?;
    match bytes.len() as u64 > limit {
        true => Err(format!("expected a file of at most {limit} bytes")),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Folders {
        folder: tempfile::TempDir,
        root: ImageRoot,
    }

    fn folders() -> Folders {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("sub/a.png"), "image").unwrap();
        symlink("sub/a.png", root.join("in.png")).unwrap();
        symlink("../secret", root.join("out.png")).unwrap();
        symlink(folder.path(), root.join("up")).unwrap();
        symlink("/proc/self/environ", root.join("proc.png")).unwrap();
        Folders {
            root: ImageRoot::open(Some(root), false).unwrap(),
            folder,
        }
    }

    #[test]
    fn files_beneath_the_root_are_read() {
        let Folders { folder, root } = folders();
        let absolute = folder.path().join("root/sub/a.png").display().to_string();
        for path in ["sub/a.png", "./sub/../sub/a.png", "in.png", &absolute] {
            assert_eq!(root.read(path, 5).unwrap(), b"image", "{path}");
        }
    }

    #[test]
    fn no_path_and_no_link_leads_out() {
        let Folders { folder, root } = folders();
        let absolute = folder.path().join("root/../secret").display().to_string();
        for path in [
            "../secret",
            "sub/../../secret",
            "/etc/passwd",
            "out.png",
            "up/secret",
            "proc.png",
            &absolute,
        ] {
            let error = root.read(path, 1 << 20).unwrap_err();
            assert_eq!(error.status.as_u16(), 422);
            assert!(
                error.message.ends_with("leads out of the image root"),
                "{path}: {error:?}"
            );
        }
        let open = ImageRoot::open(Some(folder.path().join("root")), true).unwrap();
        assert_eq!(open.read("../secret", 1 << 20).unwrap(), b"secret");
    }

    #[test]
    fn pipes_folders_large_and_missing_files_are_refused() {
        let Folders { folder, root } = folders();
        let pipe = folder.path().join("root/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        for (path, expected) in [
            ("pipe", "got a folder, pipe or device"),
            ("sub", "got a folder, pipe or device"),
            ("sub/a.png", "at most 4 bytes"),
            ("none.png", "No such file"),
        ] {
            let message = root.read(path, 4).unwrap_err().message;
            assert!(message.contains(expected), "{path}: {message}");
        }
        let closed = ImageRoot::open(None, false).unwrap();
        let message = closed.read(&"x".repeat(999), 4).unwrap_err().message;
        assert!(
            message.contains("--image-root") && message.len() < 400,
            "{message}"
        );
        assert!(ImageRoot::open(Some("no/such".into()), false).is_err());
    }
}
