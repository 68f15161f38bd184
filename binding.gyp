# The build of npm's own node-gyp, for machines without CMake: the sources and flags of CMakeLists.txt, which explains
# them. One static library per instruction set, because gyp has no flags per source.
{
  'variables': {
    'kernel_sources': [
      "<!@(node -p \"require('node:fs').readdirSync('native/kernels').filter((f) => f.endsWith('.cc')).map((f) => 'native/kernels/' + f).join(' ')\")",
    ],
    'rounded_sources': [
      "<!@(node -p \"require('node:fs').readdirSync('native/kernels').filter((f) => /^stored_rounded.*[.]cc$/.test(f)).map((f) => 'native/kernels/' + f).join(' ')\")",
    ],
    'warnings': ['-Wall', '-Wextra'],
    'hot_flags': ['-O3', '-fno-math-errno', '-fno-trapping-math', '-ffp-contract=fast'],
    'avx2_flags': ['-mavx2', '-mfma', '-mf16c'],
    'avx512_flags': ['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mfma', '-mf16c', '-mprefer-vector-width=512'],
    'avx512vnni_flags': ['<@(avx512_flags)', '-mavx512vnni'],
    'avxvnni_flags': ['<@(avx2_flags)', '-DSGEMOE_AVXVNNI'],
    'neondot_flags': ['-mcpu=generic+dotprod', '-DSGEMOE_SDOT'],
    'neoni8mm_flags': ['<@(neondot_flags)', '-DSGEMOE_I8MM'],
  },
  'target_defaults': {
    'cflags': ['<@(warnings)', '-fvisibility=hidden'],
    'cflags!': ['-O2'],
    'cflags_cc': ['-std=c++17', '-fvisibility-inlines-hidden'],
    'cflags_cc!': ['-fno-exceptions', '-std=gnu++17', '-std=gnu++20'],
    'msbuild_toolset': 'ClangCL',
    'msvs_settings': {
      'VCCLCompilerTool': {
        'ExceptionHandling': 1,
        'AdditionalOptions': ['<@(warnings)', '/clang:-O3'],
      },
    },
    'xcode_settings': {
      'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
      'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
      'CLANG_CXX_LIBRARY': 'libc++',
      'CLANG_CXX_LANGUAGE_STANDARD': 'c++17',
      'MACOSX_DEPLOYMENT_TARGET': '13.3',
      'WARNING_CFLAGS': ['<@(warnings)'],
    },
  },
  'conditions': [
    ['target_arch=="x64"', {
      'variables': {'kernel_libraries': ['kernels_baseline', 'kernels_avx2', 'kernels_avx512', 'kernels_avx512vnni', 'kernels_avxvnni']},
      'targets': [
        {
          'target_name': 'kernels_baseline',
          'type': 'static_library',
          'sources': ['<@(kernel_sources)'],
          'defines': ['SGEMOE_ISA=baseline'],
          'cflags': ['<@(hot_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)']},
        },
        {
          'target_name': 'kernels_avx2',
          'type': 'static_library',
          'sources': ['<@(kernel_sources)'],
          'defines': ['SGEMOE_ISA=avx2'],
          'cflags': ['<@(hot_flags)', '<@(avx2_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)', '<@(avx2_flags)']},
          'msvs_settings': {'VCCLCompilerTool': {'AdditionalOptions': ['<@(avx2_flags)']}},
        },
        {
          'target_name': 'kernels_avx512',
          'type': 'static_library',
          'sources': ['<@(kernel_sources)'],
          'defines': ['SGEMOE_ISA=avx512'],
          'cflags': ['<@(hot_flags)', '<@(avx512_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)', '<@(avx512_flags)']},
          'msvs_settings': {'VCCLCompilerTool': {'AdditionalOptions': ['<@(avx512_flags)']}},
        },
        {
          # Byte products serve rounded activations alone.
          'target_name': 'kernels_avx512vnni',
          'type': 'static_library',
          'sources': ['<@(rounded_sources)'],
          'defines': ['SGEMOE_ISA=avx512vnni'],
          'cflags': ['<@(hot_flags)', '<@(avx512vnni_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)', '<@(avx512vnni_flags)']},
          'msvs_settings': {'VCCLCompilerTool': {'AdditionalOptions': ['<@(avx512vnni_flags)']}},
        },
        {
          'target_name': 'kernels_avxvnni',
          'type': 'static_library',
          'sources': ['<@(rounded_sources)'],
          'defines': ['SGEMOE_ISA=avxvnni'],
          'cflags': ['<@(hot_flags)', '<@(avxvnni_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)', '<@(avxvnni_flags)']},
          'msvs_settings': {'VCCLCompilerTool': {'AdditionalOptions': ['<@(avxvnni_flags)']}},
        },
      ],
    }],
    ['target_arch=="arm64"', {
      'variables': {'kernel_libraries': ['kernels_neon', 'kernels_neondot', 'kernels_neoni8mm']},
      'targets': [
        {
          'target_name': 'kernels_neon',
          'type': 'static_library',
          'sources': ['<@(kernel_sources)'],
          'defines': ['SGEMOE_ISA=neon'],
          'cflags': ['<@(hot_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)']},
        },
        {
          # Byte products serve rounded activations alone.
          'target_name': 'kernels_neondot',
          'type': 'static_library',
          'sources': ['<@(rounded_sources)'],
          'defines': ['SGEMOE_ISA=neondot'],
          'cflags': ['<@(hot_flags)', '<@(neondot_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)', '-DSGEMOE_SDOT']},  # Apple's arm64 processors all have it
          'msvs_settings': {'VCCLCompilerTool': {'AdditionalOptions': ['<@(neondot_flags)']}},
        },
        {
          'target_name': 'kernels_neoni8mm',
          'type': 'static_library',
          'sources': ['<@(rounded_sources)'],
          'defines': ['SGEMOE_ISA=neoni8mm'],
          'cflags': ['<@(hot_flags)', '<@(neoni8mm_flags)'],
          'xcode_settings': {'OTHER_CFLAGS': ['<@(hot_flags)', '-DSGEMOE_SDOT', '-DSGEMOE_I8MM']},
          'msvs_settings': {'VCCLCompilerTool': {'AdditionalOptions': ['<@(neoni8mm_flags)']}},
        },
      ],
    }],
    ['target_arch!="x64" and target_arch!="arm64"', {
      'variables': {'kernel_libraries': ['kernels_baseline']},
      'targets': [
        {
          'target_name': 'kernels_baseline',
          'type': 'static_library',
          'sources': ['<@(kernel_sources)'],
          'defines': ['SGEMOE_ISA=baseline'],
          'cflags': ['<@(hot_flags)'],
        },
      ],
    }],
  ],
  'targets': [
    {
      # They promise the same bits everywhere, so nothing in them may be contracted.
      'target_name': 'exact',
      'type': 'static_library',
      'sources': ['native/random.cc', 'native/quantize.cc'],
      'cflags': ['-O3', '-ffp-contract=off'],
      'xcode_settings': {'OTHER_CFLAGS': ['-ffp-contract=off']},
      'msvs_settings': {'VCCLCompilerTool': {'AdditionalOptions': ['-ffp-contract=off']}},
    },
    {
      'target_name': 'sgemoe',
      'dependencies': ['exact', '<@(kernel_libraries)'],
      'sources': [
        "<!@(node -p \"['native', 'native/addon', 'native/comm'].flatMap((d) => require('node:fs').readdirSync(d).map((f) => d + '/' + f)).filter((f) => f.endsWith('.cc') && !/blas_accelerate|random|quantize/.test(f)).join(' ')\")",
      ],
      # A packed package has the headers with it (scripts/pack.js).
      'include_dirs': [
        "<!(node -p \"require('node:fs').existsSync('native/node-addon-api') ? 'native/node-addon-api' : require('node-addon-api').include_dir\")",
      ],
      'defines': ['NAPI_VERSION=8', 'NAPI_CPP_EXCEPTIONS', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
      'cflags': ['-O3'],
      'conditions': [
        ['OS=="mac"', {
          'sources': ['native/blas_accelerate.cc'],
          'defines': ['SGEMOE_ACCELERATE'],
          'link_settings': {'libraries': ['-framework Accelerate']},
        }],
        ['OS!="mac" and OS!="win"', {
          'ldflags': ['-Wl,-z,nodelete'],
          'libraries': ['-ldl', '-lpthread'],
        }],
      ],
    },
  ],
}
