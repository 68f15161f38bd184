#!/usr/bin/env node
import { EXIT, processIo } from './io';
import { main } from './program';

/** A reader that went away (`| head`) counts as an interrupt: training saves, generating stops. */
function watchOutput(): void {
  let told = false;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    if (told) return;
    told = true;
    if (!process.emit('SIGINT')) process.exit(EXIT.interrupted);
  });
}

watchOutput();
main(process.argv.slice(2), processIo()).then((code) => {
  process.exitCode = code;
});
