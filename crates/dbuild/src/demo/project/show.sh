# What the image does when it is started: shows a word's pages from the index.
echo "Pages of this site:"
ls /site | grep html
echo "Where the word '$1' stands:"
grep "^$1:" /site/index.txt || echo "nowhere"
