//! Writes the seeds of every target as the corpus that libFuzzer begins with:
//! `cargo run -p kvorum-fuzz --example write_seeds -- DIR`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let dir = std::env::args_os().nth(1).expect("the directory is the one argument");
    for target in kvorum_fuzz::TARGETS {
        let into = Path::new(&dir).join(target.name);
        std::fs::create_dir_all(&into)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(into.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
