#!/usr/bin/env bash
# Tests what release.yml is about to publish, on a machine of its platform: bash .ci/release.sh <platform>, with the packed
# package and prebuilds/ in this folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
platform=$1
tarball=$(echo "$PWD"/sgemoe-*.tgz)

npm ci --no-audit --no-fund
# The addon that was built for this platform passes what every backend must.
SGEMOE_ADDON="prebuilds/$platform/sgemoe.node" npx vitest run --project fast test/backend test/model

# The package, installed, takes it by itself.
project=$(mktemp -d)
cp test/package/consumer.txt "$project/consumer.mts"
cd "$project"
echo '{ "private": true }' > package.json
npm install --no-audit --no-fund "$tarball" typescript@5 @types/node@20
npx tsc --module nodenext --target es2022 --strict --types node consumer.mts
node consumer.mjs
npx sgemoe info --json | node -e "
  const info = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
  console.log(info);
  if (info.platform !== '$platform' || !/[\\\\/]prebuilds[\\\\/]/.test(info.addonPath)) process.exit(1);
"
