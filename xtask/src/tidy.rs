//! Compares the architecture page with the disk.

pub fn run() -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}
