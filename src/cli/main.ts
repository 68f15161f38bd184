#!/usr/bin/env node
import { main } from './program';
import { EXIT, processIo } from './terminal/io';

/**
 * Output that can't be written counts as an interrupt: training saves, generating stops. A full disk is reported, a
 * reader that went away (`| head`) isn't.
 */
function watchOutput(): void {
  let told = false;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (told) return;
    told = true;
    if (error.code !== 'EPIPE') process.stderr.write(`sgemoe: stdout: ${error.message}\n`);
    if (!process.emit('SIGINT')) process.exit(EXIT.interrupted);
  });
  process.stderr.on('error', () => {}); // nobody reads it any more
}

watchOutput();
main(process.argv.slice(2), processIo()).then((code) => {
  process.exitCode = code;
});
