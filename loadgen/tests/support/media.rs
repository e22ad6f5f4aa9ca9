//! Media files made by ffmpeg.

use std::process::Command;

/// An FLV file of ten seconds, 500 kbit/s: H.264 with B-frames, 30 pictures a second, a keyframe every
/// two seconds; AAC. Whoever asks for it removes it.
pub fn file_with_b_frames(name: &str) -> String {
    let file = super::scratch_file(name);
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-t", "10"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-t", "10"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "60"])
        .args(["-keyint_min", "60", "-sc_threshold", "0"])
        .args(["-b:v", "436k", "-maxrate", "436k", "-bufsize", "436k"])
        .args(["-c:a", "aac", "-b:a", "64k", "-f", "flv"])
        .arg(&file)
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "{output:?}");
    file
}
