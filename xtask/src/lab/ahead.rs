//! Fetches while programs compile what later ones and the images need; must not fail a run: who needs it fetches it again.

use std::sync::atomic::{AtomicBool, Ordering};

use super::cache::Cache;
use super::deb_lock::DebLock;
use super::debian::Debian;
use super::image::Images;
use super::pins::{Pins, Program};
use super::programs::Builder;

/// Compiles, and beside that downloads the programs' modules and makes the Debian roots: those wait for the network, this for
/// the processor.
pub fn beside<T>(
    programs: &[&Program],
    builder: &Builder,
    pins: &Pins,
    lock: &DebLock,
    cache: &Cache,
    compile: impl FnOnce() -> T,
) -> T {
    let over = &AtomicBool::new(programs.is_empty());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The first one's modules are fetched by its own build.
            for program in programs.iter().skip(1).filter(|p| !p.modules.is_empty()) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = builder.uses(program);
            }
            let debian = &Debian::new(cache, &pins.debian, lock);
            let images = Images {
                cache,
                pins,
                debian,
                builder,
            };
            for root in &pins.roots {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = images.root_tar(root);
            }
        });
        let result = compile();
        over.store(true, Ordering::Relaxed);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::super::libraries::Libraries;
    use super::*;

    #[test]
    fn nothing_is_fetched_when_nothing_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        let (pins, lock) = (Pins::load().unwrap(), DebLock::default());
        let builder = Builder::new(&cache, Libraries::new()).unwrap();
        assert_eq!(beside(&[], &builder, &pins, &lock, &cache, || 3), 3);
        assert!(!cache.join("work").exists() && !cache.join("roots").exists());
    }
}
