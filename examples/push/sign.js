// Signs a push session: pushSession(secret, 5, [10, 12]) is the token for user 5 on channels 10, 12.
const { createHmac } = require("node:crypto");

function pushSession(secret, userId, channels, expiresAt) {
  const session = JSON.stringify({ channels, user_id: userId, exp: expiresAt });
  const text = Buffer.from(session).toString("base64");
  return `${text}--${createHmac("sha1", secret).update(text).digest("hex")}`;
}

module.exports = { pushSession };
if (require.main === module) console.log(pushSession(process.argv[2], 5, [10, 12]));
