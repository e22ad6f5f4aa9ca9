//! Media files: made once by ffmpeg, kept in the target directory, named after their parameters.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use shardcast::proto::flv::{Tag, TagReader};

use super::ffmpeg::Ffmpeg;
use super::process::Process;

/// How long ffmpeg may take to make one file.
const MAKE_LIMIT: Duration = Duration::from_secs(120);

/// What a file holds. Every video track is H.264 at 30 frames/s with two B-frames between others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Media {
    /// Length, seconds.
    pub(crate) seconds: u32,
    /// The video track, if there is one.
    pub(crate) video: Option<Video>,
    /// Whether there is an AAC track: a tone that changes all the time, 44.1 kHz, mono.
    pub(crate) audio: bool,
}

/// A video track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Video {
    /// Picture size as ffmpeg writes it.
    pub(crate) size: &'static str,
    /// Bit rate, kbit/s.
    pub(crate) kilobits: u32,
    /// Distance of keyframes, frames.
    pub(crate) gop_frames: u32,
}

/// A small picture with a keyframe every two seconds.
pub(crate) const SMALL_VIDEO: Video = Video { size: "640x360", kilobits: 800, gop_frames: 60 };

/// A minute of video and audio, as most streams are.
pub(crate) const MINUTE: Media = Media { seconds: 60, video: Some(SMALL_VIDEO), audio: true };

/// Ten seconds of video and audio.
pub(crate) const SHORT: Media = Media { seconds: 10, ..MINUTE };

impl Media {
    /// The file, made now if it is not there yet.
    pub(crate) fn file(&self) -> PathBuf {
        cached(&self.name(), || self.make_command())
    }

    fn name(&self) -> String {
        let video = self.video.map_or_else(
            || "novideo".to_owned(),
            |video| format!("{}-{}k-gop{}", video.size, video.kilobits, video.gop_frames),
        );
        let audio = if self.audio { "aac" } else { "noaudio" };
        format!("{}s-{video}-{audio}", self.seconds)
    }

    fn make_command(&self) -> Command {
        let mut command = Ffmpeg::System.command();
        if let Some(video) = self.video {
            // Noise keeps the encoder at its bit rate; the counter picture shows a person where it is.
            let source = format!("testsrc2=size={}:rate=30,noise=alls=20:allf=t", video.size);
            command.args(["-f", "lavfi", "-i", &source]);
        }
        if self.audio {
            let source = "aevalsrc=0.4*sin(2*PI*(300+200*sin(t/3))*t):s=44100";
            command.args(["-f", "lavfi", "-i", source]);
        }
        if let Some(video) = self.video {
            let rate = format!("{}k", video.kilobits);
            let gop = video.gop_frames.to_string();
            command
                .args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2"])
                .args(["-pix_fmt", "yuv420p", "-sc_threshold", "0", "-g", &gop])
                .args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate]);
        }
        if self.audio {
            command.args(["-c:a", "aac", "-b:a", "96k"]);
        }
        command.args(["-t", &self.seconds.to_string()]);
        command
    }
}

/// The file of that name, made now by `command` (an ffmpeg without its output) if it is not there yet.
/// The name has to change with what the command makes.
pub(crate) fn cached(name: &str, command: impl FnOnce() -> Command) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../test-media");
    fs::create_dir_all(&directory).expect("the media directory can be made");
    let path = directory.join(format!("{name}.flv"));
    let _lock = lock(&directory.join(format!("{name}.lock")));
    if !path.exists() {
        // Written beside and renamed, so that a broken run leaves no half file.
        let partial = path.with_extension("partial");
        let mut command = command();
        command.args(["-y", "-f", "flv"]).arg(&partial);
        Process::run("ffmpeg makes media", &mut command, MAKE_LIMIT);
        fs::rename(&partial, &path).expect("the finished file can be renamed");
    }
    path
}

/// The tags of a file.
pub(crate) fn tags(path: &Path) -> Vec<Tag> {
    let bytes = fs::read(path).expect("the file can be read");
    let mut reader = TagReader::new(bytes.len());
    reader.push(&bytes);
    std::iter::from_fn(|| reader.next_tag().expect("ffmpeg writes FLV")).collect()
}

/// Holds `path` until the result is dropped; tests of several processes may want one file at once.
fn lock(path: &Path) -> File {
    let file = File::create(path).expect("the lock file can be made");
    // SAFETY: the descriptor is open for the whole call; flock touches no memory of ours.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(result, 0, "{} can be locked", path.display());
    file
}
