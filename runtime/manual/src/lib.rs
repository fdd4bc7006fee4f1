//! The man page and the shell completions of a program, made of its flags.
//!
//! Every program reads its command line by [`parse`] or [`parse_from`]. With `SEEWARD_WRITE_MANUAL=DIR` in the environment it writes its pages
//! below the folder, laid out as in `/usr/share`, and ends.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process;

use clap::{Command, Parser};
use clap_complete::{Shell, generate_to};

/// Names the folder of the pages.
pub const VARIABLE: &str = "SEEWARD_WRITE_MANUAL";

const MAN: &str = "man/man1";
/// The folders in which shells search for completions.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/site-functions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Reads the command line, or writes the program's pages and ends.
#[must_use]
pub fn parse<A: Parser>() -> A {
    parse_from(std::env::args_os())
}

/// Reads these arguments, of which the first is the program's name, or writes its pages and ends.
#[must_use]
pub fn parse_from<A: Parser>(arguments: impl IntoIterator<Item = OsString>) -> A {
    let Some(folder) = std::env::var_os(VARIABLE) else {
        return A::parse_from(arguments);
    };
    let command = A::command();
    let name = command.get_name().to_owned();
    match write(command, Path::new(&folder)) {
        Ok(()) => process::exit(0),
        Err(error) => {
            let folder = folder.display();
            eprintln!("{name}: error: {VARIABLE}={folder}: {error}");
            process::exit(2)
        }
    }
}

/// Writes the pages of a program below `folder`.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn write(mut command: Command, folder: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    for (shell, place) in SHELLS {
        let place = folder.join(place);
        fs::create_dir_all(&place)?;
        let file = generate_to(shell, &mut command, &name, &place)?;
        if shell == Shell::Bash {
            // bash-completion loads the file that has the command's name.
            fs::rename(file, place.join(&name))?;
        }
    }
    let man = folder.join(MAN);
    fs::create_dir_all(&man)?;
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    fs::write(man.join(name + ".1"), page)
}
