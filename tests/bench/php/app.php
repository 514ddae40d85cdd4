<?php
// The same job in the way that a small PHP site would do it: one flat file under one lock, synced.
// It is kinder to itself than the contract allows: no rate limit, no spent captchas, no sweep.
declare(strict_types=1);

const REALM = 'bench.example';
$state = $_SERVER['BENCH_STATE'];
$path = strtolower(basename($_SERVER['SCRIPT_NAME']));

function answer(int $status, string $body, string $type = 'application/json; charset=utf-8'): never
{
    http_response_code($status);
    header("Content-Type: $type");
    header('Cache-Control: no-store');
    header('X-Content-Type-Options: nosniff');
    header('Content-Length: ' . strlen($body));
    echo $body;
    exit;
}

function refuse(int $status, string $code): never
{
    answer($status, json_encode(['error' => $code, 'error_description' => $code]));
}

function base64url(string $bytes): string
{
    return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
}

function key_of_captcha(string $state): string
{
    $file = "$state/captcha.key";
    if (!is_file($file)) {
        $new = "$file." . getmypid();
        file_put_contents($new, random_bytes(32));
        rename($new, $file);
    }
    return file_get_contents($file);
}

/** Opens a file and takes its lock. */
function locked(string $file)
{
    $handle = fopen($file, 'c+');
    flock($handle, LOCK_EX);
    return $handle;
}

function captcha(string $state): never
{
    $payload = pack('J', time()) . random_bytes(10);
    $secret = hash_hmac('sha256', "q$payload", key_of_captcha($state), true);
    $tag = substr(hash_hmac('sha256', $payload, key_of_captcha($state), true), 0, 24);
    $question = (ord($secret[0]) % 9 + 1) . ' + ' . (ord($secret[1]) % 9 + 1);
    $token = base64url($payload) . '.' . base64url($tag);
    answer(200, json_encode(['question' => $question, 'token' => $token, 'realm' => REALM]));
}

function is_solved(string $state, string $token, string $answer): bool
{
    [$payload, $tag] = array_map(fn ($part) => base64_decode(strtr($part, '-_', '+/')), explode('.', "$token."));
    $wanted = substr(hash_hmac('sha256', $payload, key_of_captcha($state), true), 0, 24);
    if (!hash_equals($wanted, $tag) || unpack('J', $payload)[1] < time() - 900) {
        return false;
    }
    $secret = hash_hmac('sha256', "q$payload", key_of_captcha($state), true);
    return (int) $answer === ord($secret[0]) % 9 + 1 + ord($secret[1]) % 9 + 1;
}

function mail_text(string $email, string $link): string
{
    $boundary = bin2hex(random_bytes(12));
    return "From: signup@bench.example\r\nTo: $email\r\nSubject: Activate your account\r\n"
        . 'Date: ' . date(DATE_RFC2822) . "\r\nMessage-ID: <$boundary@bench.example>\r\n"
        . "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"$boundary\"\r\n\r\n"
        . "--$boundary\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nActivate it here:\r\n\r\n$link\r\n"
        . "--$boundary\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p><a href=\"$link\">Activate it here</a></p>\r\n"
        . "--$boundary--\r\n";
}

function sign_up(string $state): never
{
    foreach (['user', 'name', 'email', 'ha1', 'captcha_token', 'captcha_answer'] as $field) {
        if (!is_string($_POST[$field] ?? null) || $_POST[$field] === '') {
            refuse(400, 'invalid_request');
        }
    }
    ['user' => $user, 'name' => $name, 'email' => $email, 'ha1' => $ha1] = $_POST;
    if (!preg_match('/^[a-z0-9_.-]{1,64}$/D', $user) || !filter_var($email, FILTER_VALIDATE_EMAIL)
        || !preg_match('/^[0-9a-f]{32}$/D', $ha1)) {
        refuse(400, 'invalid_request');
    }
    if (!is_solved($state, $_POST['captcha_token'], $_POST['captcha_answer'])) {
        refuse(400, 'captcha_failed');
    }
    $file = locked("$state/credentials");
    while (($line = fgets($file)) !== false) {
        if (str_starts_with($line, "$user:")) {
            refuse(409, 'conflict');
        }
    }
    $token = base64url(random_bytes(32));
    $staged = "$state/staging/" . hash('sha256', $token) . '.eml';
    $mail = fopen($staged, 'x');
    fwrite($mail, mail_text($email, "http://bench.example/activate.ashx?token=$token"));
    fdatasync($mail);
    fclose($mail);
    $attributes = http_build_query(['name' => $name, 'email' => $email, 'created' => date(DATE_RFC3339),
        'expires' => date(DATE_RFC3339, time() + 604800), 'activation' => hash('sha256', $token)]);
    fseek($file, 0, SEEK_END);
    fwrite($file, "$user:" . REALM . ":$ha1:1:guest:$attributes\n");
    fdatasync($file);
    fclose($file);
    rename($staged, $_SERVER['BENCH_PICKUP'] . '/' . basename($staged));
    answer(200, json_encode(['ok' => true, 'user' => $user]));
}

function activate(string $state): never
{
    $id = 'activation=' . hash('sha256', (string) ($_GET['token'] ?? ''));
    $file = locked("$state/credentials");
    for ($offset = 0; ($line = fgets($file)) !== false; $offset += strlen($line)) {
        [$user, $realm, $ha1, $disabled] = explode(':', $line);
        if ($disabled === '1' && str_ends_with($line, "$id\n")) {
            fseek($file, $offset + strlen("$user:$realm:$ha1:"));
            fwrite($file, '0');
            fdatasync($file);
            $view = fopen("$state/htdigest", 'a');
            fwrite($view, "$user:$realm:$ha1\n");
            fdatasync($view);
            fclose($file);
            answer(200, "<!doctype html><p>Welcome, $user.</p>", 'text/html; charset=utf-8');
        }
    }
    answer(400, '<!doctype html><p>Activation link is invalid or expired</p>', 'text/html; charset=utf-8');
}

match ($path) {
    'captcha.ashx' => captcha($state),
    'signup.ashx' => sign_up($state),
    'activate.ashx' => activate($state),
    default => refuse(404, 'not_found'),
};
