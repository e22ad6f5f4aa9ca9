# Signs a push session. `push_session(secret, 5, [10, 12])` gives the token for user 5 on channels 10, 12.
# In Rails: put this into a helper, and the secret into credentials.
require "base64"
require "json"
require "openssl"

def push_session(secret, user_id, channels, expires_at = nil)
  session = { channels: channels, user_id: user_id }
  session[:exp] = expires_at.to_i if expires_at
  text = Base64.strict_encode64(session.to_json)
  "#{text}--#{OpenSSL::HMAC.hexdigest('SHA1', secret, text)}"
end

puts push_session(ARGV[0], 5, [10, 12]) if __FILE__ == $PROGRAM_NAME
