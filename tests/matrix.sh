#!/bin/sh
# The tests of the environment with the oldest and the newest supported Gymnasium; then, without torch, with each other
# supported Python that is found. `make matrix` gives the development Python as $1.
set -eu
python=$1 folder=build/matrix
set -- -q -m "not slow" -p no:cacheprovider
install() { own=$1; shift; "$own" -m pip install --quiet --disable-pip-version-check "$@"; }

for wanted in '==1.2.0' '<1.5'; do
	install "$python" --no-deps --upgrade --target "$folder/gymnasium$wanted" "gymnasium$wanted"
	echo "== Gymnasium $wanted: all of the environment but texts and targets, which know no Gymnasium"
	PYTHONPATH="$folder/gymnasium$wanted" "$python" -m pytest "$@" tests/envs/test_*.py tests/envs/tasks
done

for version in 3.10 3.12 3.13; do
	found=
	for candidate in "python$version" "$HOME/.pyenv/versions/$version".*/bin/python; do
		if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then found=$candidate; fi
	done
	if [ -z "$found" ]; then
		echo "== Python $version: none is found here, skipped"
		continue
	fi
	"$found" -m venv "$folder/python$version"
	own=$folder/python$version/bin/python
	# constraints.txt pins torch to a build for Python 3.11; the environment needs none.
	install "$own" PyYAML 'array-api-compat>=1.12' filelock 'gymnasium>=1.2,<1.5' 'jieba>=0.42.1' \
		'matplotlib>=3.9' 'nltk>=3.9' 'numpy>=2.0' 'pillow>=10' 'pypinyin>=0.50' 'sacrebleu>=2.4' 'tokenizers>=0.20' \
		'hypothesis>=6.100' 'pytest>=8.3'
	install "$own" --no-deps -e .
	echo "== Python $version, without torch"
	"$own" -m pytest "$@" tests/envs
done
