'use strict';
/** The arguments of python3 that unpack packages of PyPI in a folder, without the packages that they depend on. */
function pipInstallInto(folder, ...packages) {
  const options = ['--quiet', '--disable-pip-version-check', '--no-deps', '--target', folder];
  return ['-m', 'pip', 'install', ...options, ...packages];
}

module.exports = { pipInstallInto };
