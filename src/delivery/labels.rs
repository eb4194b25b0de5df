//! Labels as files: `SERIAL.svg` and `SERIAL.zpl`, 0600; those of copies `SERIAL.copy-2.svg` and so on. Whoever
//! prints takes them away when he likes: one that is gone is not written again, unless it was never recorded.

use std::path::Path;

use super::folders::Folders;
use super::{DeliveryError, failed, folder_name};
use crate::label::Label;

/// Writes a label; on disk when it returns. The same label a second time changes nothing.
///
/// # Errors
/// It is not written, or not durably. The same call again takes it up.
pub(crate) fn put_label(at: &impl Folders, directory: &Path, label: &Label) -> Result<(), DeliveryError> {
    if !at.is_dir(directory) {
        return Err(DeliveryError::Missing { directory: directory.to_owned() });
    }
    let mut name = folder_name(&label.serial);
    if label.number > 1 {
        name += &format!(".copy-{}", label.number);
    }
    let rendered = label.render()?;
    for (kind, content) in [("svg", rendered.svg), ("zpl", rendered.zpl)] {
        let path = directory.join(format!("{name}.{kind}"));
        match at.read(&path) {
            Ok(there) if *there == content.as_bytes() => {}
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("read", &path)(error).into());
            }
            // Of an earlier life of the serial number, or none.
            _ => at.replace(&path, content.as_bytes())?,
        }
    }
    // A crash may have come between a name and its sync.
    Ok(at.sync(directory)?)
}
