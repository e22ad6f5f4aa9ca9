
// What a test wants to know of the page's player.
const observedEvents = { codecs: [], errors: [], isComplete: false, steps: 0 };
{
  const createPlayer = mpegts.createPlayer;
  mpegts.createPlayer = (source, settings) => {
    const player = createPlayer(source, settings);
    player.on(mpegts.Events.ERROR, (...what) => observedEvents.errors.push(what));
    player.on(mpegts.Events.LOADING_COMPLETE, () => { observedEvents.isComplete = true; });
    return player;
  };
  const addSourceBuffer = MediaSource.prototype.addSourceBuffer;
  MediaSource.prototype.addSourceBuffer = function (type) {
    observedEvents.codecs.push(type);
    return addSourceBuffer.call(this, type);
  };
}
// How often the number of decoded pictures was found to have grown.
let lastDecoded = 0;
setInterval(() => {
  const { decoded } = observed();
  observedEvents.steps += Number(decoded > lastDecoded);
  lastDecoded = decoded;
}, 100);
function observed() {
  const video = document.querySelector('video');
  const quality = video.getVideoPlaybackQuality();
  return {
    ...observedEvents,
    buffered: Array.from(
      { length: video.buffered.length },
      (_, at) => [video.buffered.start(at), video.buffered.end(at)]),
    audioBytes: video.webkitAudioDecodedByteCount,
    corrupted: quality.corruptedVideoFrames,
    decoded: quality.totalVideoFrames,
    dropped: quality.droppedVideoFrames,
    ended: video.ended,
    error: video.error && video.error.message,
    height: video.videoHeight,
    time: video.currentTime,
    width: video.videoWidth,
  };
}
