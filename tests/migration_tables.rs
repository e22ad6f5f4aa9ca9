//! Who comes from nginx-rtmp or SRS finds every directive in the tables, and the keys that they name
//! exist.

use std::fs;
use std::path::Path;

const NGINX: &str = "rtmp server application listen timeout ping ping_timeout busy max_streams \
    ack_window chunk_size max_message out_queue out_cork buflen buffer play_time_fix \
    publish_time_fix so_keepalive live stream_buckets sync interleave wait_key wait_video \
    publish_notify play_restart idle_streams drop_idle_publisher meta allow deny max_connections \
    exec exec_push exec_pull exec_publish exec_publish_done exec_play exec_play_done \
    exec_record_done exec_static exec_kill_signal exec_options respawn respawn_timeout record \
    record_path record_suffix record_unique record_append record_lock record_max_size \
    record_max_frames record_interval record_notify recorder push pull push_reconnect \
    pull_reconnect relay_buffer session_relay play play_temp_path play_local_path rtmp_auto_push \
    rtmp_auto_push_reconnect rtmp_socket_dir hls hls_path hls_fragment hls_max_fragment \
    hls_playlist_length hls_sync hls_muxdelay hls_continuous hls_nested hls_fragment_naming \
    hls_fragment_naming_granularity hls_fragment_slicing hls_type hls_max_audio_delay \
    hls_audio_buffer_size hls_cleanup hls_variant hls_base_url hls_keys hls_key_path hls_key_url \
    hls_fragments_per_key dash dash_path dash_fragment dash_playlist_length dash_cleanup \
    dash_nested on_connect on_disconnect on_publish on_play on_publish_done on_play_done on_done \
    on_update on_record_done notify_method notify_update_timeout notify_update_strict \
    notify_relay_redirect netcall_timeout netcall_buffer rtmp_stat rtmp_stat_stylesheet \
    rtmp_control access_log log_format";

const SRS: &str = "listen max_connections daemon pid work_dir asprocess utc_time server_id include \
    in_docker disable_daemon_for_docker empty_ip_ok grace_start_wait grace_final_wait \
    force_grace_quit inotify_auto_reload srs_log_tank srs_log_level srs_log_file pithy_print_ms \
    tcmalloc_release_rate threads circuit_breaker query_latest_version heartbeat stats vhost \
    chunk_size in_ack_size out_ack_size tcp_nodelay min_latency mr mr_latency firstpkt_timeout \
    normal_timeout parse_sps try_annexb_first kickoff_for_idle gop_cache gop_cache_max_frames \
    queue_length mw_latency mw_msgs send_min_interval reduce_sequence_header time_jitter \
    mix_correct atc atc_auto refer security http_hooks on_connect on_close on_publish \
    on_unpublish on_play on_stop on_dvr on_hls on_hls_notify forward cluster exec ingest transcode \
    stream_caster dvr hls dash hds http_server http_static http_remux crossdomain srt_server srt \
    rtc_server rtc rtsp_server http_api exporter";

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Left and right cells of a page's table.
fn rows(page: &str) -> Vec<(&str, &str)> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .skip(1)
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn covers(name: &str, directives: &str) {
    let page = page(name);
    let rows = rows(&page);
    for directive in directives.split_whitespace() {
        let row = rows.iter().find(|(left, _)| quoted(left).any(|it| it == directive));
        let (_, right) = row.unwrap_or_else(|| panic!("{name}: no row for {directive}"));
        assert!(right.len() > 5, "{name}: {directive} becomes {right:?}");
    }
    for (left, _) in &rows {
        for directive in quoted(left) {
            // TLS of its own is in SRS's newest version only.
            let is_known = directives.split_whitespace().any(|it| it == directive);
            assert!(is_known || directive == "rtmps", "{name}: {directive} is no directive");
        }
    }
}

#[test]
fn every_directive_of_nginx_rtmp_has_a_row() {
    covers("migrate-nginx-rtmp.md", NGINX);
}

#[test]
fn every_setting_of_srs_has_a_row() {
    covers("migrate-srs.md", SRS);
}

/// A dotted key in a right cell is one that the configuration takes.
#[test]
fn the_keys_exist() {
    let sections = ["server", "limits", "rtmp", "http", "api", "log", "hooks", "apps"];
    let mut checked = 0;
    for name in ["migrate-nginx-rtmp.md", "migrate-srs.md"] {
        let page = page(name);
        for (_, right) in rows(&page) {
            for key in quoted(right) {
                let key = key.split(' ').next().unwrap_or_default();
                let Some((section, rest)) = key.split_once('.') else { continue };
                if !sections.contains(&section) {
                    continue;
                }
                // The last part stands as a key, or as an optional one in a comment.
                let last = rest.rsplit('.').next().unwrap_or_default();
                let found = shardcast::config::DEFAULT_TOML.lines().any(|line| {
                    let line = line.trim_start_matches("# ");
                    line.split(['=', ' ']).next() == Some(last)
                });
                let is_relay = ["push", "pull"].contains(&last);
                assert!(found || is_relay, "{name}: there is no key {key}");
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "only {checked} keys were found");
}
