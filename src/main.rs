//! The binary: hands the command line to [`linemint::cli`].

use linemint::error::ExitStatus;

fn main() -> ExitStatus {
    linemint::cli::main()
}
