<?php
// Signs a push session. push_session($secret, 5, [10, 12]) gives the token for user 5 on channels 10, 12.
function push_session(string $secret, int $user_id, array $channels, ?int $expires_at = null): string
{
    $session = ['channels' => $channels, 'user_id' => $user_id];
    if ($expires_at !== null) {
        $session['exp'] = $expires_at;
    }
    $text = base64_encode(json_encode($session));
    return $text . '--' . hash_hmac('sha1', $text, $secret);
}

if (realpath($argv[0] ?? '') === __FILE__) {
    echo push_session($argv[1], 5, [10, 12]), "\n";
}
