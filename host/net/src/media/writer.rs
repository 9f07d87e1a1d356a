//! The thread that writes recordings, so that a slow disk never holds up audio.
//!
//! Fed by the media thread through a bounded channel, in order; it reports [`Event::Recorded`] and
//! [`Event::RecordFailed`] itself, and passes on the events that must come after those.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cordboard_media::control::{Event, LegId};
use cordboard_media::leg::FileJob;
use cordboard_media::wav;
use crossbeam_channel::{Receiver, Sender};

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    File(FileJob),
    /// Forget a recording and say why.
    Abort {
        leg: LegId,
        recording: u64,
        reason: String,
    },
    /// Pass on an event, after those of the jobs before.
    Emit(Event),
}

/// A recording whose file cannot be written, told to the media thread.
pub(super) type Failed = (LegId, u64);

/// A file that is being written; it has its name only when it is whole.
struct Open {
    file: File,
    path: PathBuf,
    part: PathBuf,
    samples: u32,
    octets: Vec<u8>,
}

/// Writes until the media thread hangs up.
pub(super) fn run(jobs: &Receiver<Job>, failed: &Sender<Failed>, events: &dyn Fn(Vec<Event>)) {
    let mut open: BTreeMap<(LegId, u64), Open> = BTreeMap::new();
    let fail = |leg, recording, reason: String| {
        tracing::warn!(leg = leg_number(leg), recording, reason, "a recording failed");
        let _ = failed.try_send((leg, recording));
        events(vec![Event::RecordFailed { leg, recording, reason }]);
    };
    for job in jobs {
        match job {
            Job::Emit(event) => events(vec![event]),
            Job::Abort { leg, recording, reason } => {
                if let Some(open) = open.remove(&(leg, recording)) {
                    open.discard();
                    fail(leg, recording, reason);
                }
            }
            Job::File(FileJob::Begin { leg, recording, path }) => match Open::create(path) {
                Ok(file) => {
                    open.insert((leg, recording), file);
                }
                Err(reason) => fail(leg, recording, reason),
            },
            Job::File(FileJob::Samples { leg, recording, samples }) => {
                let Some(file) = open.get_mut(&(leg, recording)) else { continue };
                if let Err(error) = file.write(&samples) {
                    let reason = file.blame("written", &error);
                    if let Some(open) = open.remove(&(leg, recording)) {
                        open.discard();
                    }
                    fail(leg, recording, reason);
                }
            }
            Job::File(FileJob::End { leg, recording, duration_ms, reason }) => {
                let Some(mut file) = open.remove(&(leg, recording)) else { continue };
                match file.finish() {
                    Ok(()) => events(vec![Event::Recorded { leg, recording, duration_ms, reason }]),
                    Err(error) => {
                        let reason = file.blame("finished", &error);
                        file.discard();
                        fail(leg, recording, reason);
                    }
                }
            }
        }
    }
}

fn leg_number(leg: LegId) -> u64 {
    leg.0
}

impl Open {
    fn create(path: PathBuf) -> Result<Self, String> {
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let blame = |error: io::Error| {
            format!("{} cannot be made: {error}; see that its folder can be written", part.display())
        };
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
            fs::create_dir_all(folder).map_err(blame)?;
        }
        let mut file = File::create(&part).map_err(blame)?;
        file.write_all(&wav::header(0)).map_err(blame)?;
        Ok(Self { file, path, part, samples: 0, octets: Vec::new() })
    }

    fn write(&mut self, samples: &[i16]) -> io::Result<()> {
        self.octets.clear();
        self.octets.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        self.file.write_all(&self.octets)?;
        self.samples = self.samples.saturating_add(samples.len() as u32);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&wav::header(self.samples))?;
        fs::rename(&self.part, &self.path)
    }

    fn discard(self) {
        let _ = fs::remove_file(&self.part);
    }

    fn blame(&self, what: &str, error: &io::Error) -> String {
        format!("{} cannot be {what}: {error}", self.path.display())
    }
}
